"""Compiled loops over edges, where numba is installed.

A message is LeakyReLU(LayerNorm(l_i + r_j + v_e w)) for every edge e from i to j. As plain tensors
it is written to memory and read again six times; one loop per edge keeps it in registers. What
enters has mean zero along its features, so that the norm needs no mean of its own.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.kit.require import require

__all__ = ["EPS", "SLOPE", "Kernels", "compiled"]

EPS = 1e-5
"""Of every LayerNorm."""
SLOPE = 0.01
"""Of every LeakyReLU below zero."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Ends = tuple[Floats, Floats]
Norm = tuple[Floats, Floats, Floats]
Edges = tuple[Ints, Ints, Floats]


class Kernels(NamedTuple):
    """The compiled loops.

    Ends are l [S, h] and r [T, h], norm is w, gain and shift [h], edges are source, target and
    value [E].

    Attributes:
        forward: sums of messages by target.
        backward: its gradients.
        standardise: rows to mean zero and variance one, with their factors.
        leaky: x ← LeakyReLU(x + b) in place.
    """

    forward: Callable[..., None]
    backward: Callable[..., None]
    standardise: Callable[..., None]
    leaky: Callable[..., None]


@functools.lru_cache(maxsize=1)
def compiled() -> Kernels | None:
    """The loops, or None without numba. Machine code is kept on disk where that can be."""
    if importlib.util.find_spec("numba") is None:
        return None
    numba: Any = require("numba", "fast")
    # NaN and infinities keep their meaning: only the order of sums is free.
    free = {"reassoc", "contract", "nsz", "arcp"}
    options = {"nogil": True, "error_model": "numpy", "fastmath": free}
    loops = (_forward, _backward, _standardise, _leaky)
    try:
        return Kernels(*map(numba.njit(cache=True, **options), loops))
    except RuntimeError:
        # Neither beside this file nor in the user's cache can anything be written.
        return Kernels(*map(numba.njit(**options), loops))


def _forward(ends: Ends, norm: Norm, edges: Edges, total: Floats) -> None:
    """Add messages to total [T, h]; a target below 0 is passed over."""
    left, right = ends
    weight, gain, shift = norm
    source, target, value = edges
    h = left.shape[1]
    scale = np.float32(1.0 / h)
    eps, slope, one, zero = np.float32(EPS), np.float32(SLOPE), np.float32(1.0), np.float32(0.0)
    x = np.empty(h, np.float32)
    for e in range(len(source)):
        j = target[e]
        if j < 0:
            continue
        a, b, v, sink = left[source[e]], right[j], value[e], total[j]
        square = zero
        for k in range(h):
            x[k] = a[k] + b[k] + v * weight[k]
            square += x[k] * x[k]
        factor = one / np.sqrt(square * scale + eps)
        for k in range(h):
            y = x[k] * factor * gain[k] + shift[k]
            sink[k] += y if y > zero else slope * y


def _backward(ends: Ends, norm: Norm, edges: Edges, up: Floats, slopes: tuple[Floats, ...]) -> None:
    """Add to slopes, which are zero at first, of both ends, norm and value; up [T, h] comes in."""
    left, right = ends
    weight, gain, shift = norm
    source, target, value = edges
    d_left, d_right, d_weight, d_gain, d_shift, d_value = slopes
    h = left.shape[1]
    scale = np.float32(1.0 / h)
    eps, slope, one, zero = np.float32(EPS), np.float32(SLOPE), np.float32(1.0), np.float32(0.0)
    x, d = np.empty(h, np.float32), np.empty(h, np.float32)
    for e in range(len(source)):
        i, j, v = source[e], target[e], value[e]
        a, b, above = left[i], right[j], up[j]
        square = zero
        for k in range(h):
            x[k] = a[k] + b[k] + v * weight[k]
            square += x[k] * x[k]
        factor = one / np.sqrt(square * scale + eps)
        along = zero
        for k in range(h):
            x[k] *= factor
            y = x[k] * gain[k] + shift[k]
            dy = above[k] if y > zero else slope * above[k]
            d_gain[k] += dy * x[k]
            d_shift[k] += dy
            d[k] = dy * gain[k]
            along += d[k] * x[k]
        along *= scale
        to_left, to_right, by_value = d_left[i], d_right[j], zero
        for k in range(h):
            g = factor * (d[k] - along * x[k])
            to_left[k] += g
            to_right[k] += g
            d_weight[k] += v * g
            by_value += g * weight[k]
        d_value[e] = by_value


def _standardise(x: Floats, centre: float, spread: float, width: int, out: Floats) -> None:
    """Rows of x [n, d], each continued to `width` by constants.

    The constants have this mean and this sum of squares about it. Writes the d entries
    standardised; if there are constants 1/σ and (centre - μ)/σ, which standardise them; and 1.
    """
    n, d = x.shape
    rest, last = width - d, out.shape[1] - 1
    for i in range(n):
        total = rest * centre
        for k in range(d):
            total += x[i, k]
        mean = total / width
        square = spread + rest * (centre - mean) * (centre - mean)
        for k in range(d):
            square += (x[i, k] - mean) * (x[i, k] - mean)
        factor = 1.0 / np.sqrt(square / width + EPS)
        for k in range(d):
            out[i, k] = (x[i, k] - mean) * factor
        if rest > 0:
            out[i, d] = factor
            out[i, d + 1] = (centre - mean) * factor
        out[i, last] = 1.0


def _leaky(x: Floats, bias: Floats) -> None:
    n, h = x.shape
    slope, zero = np.float32(SLOPE), np.float32(0.0)
    for i in range(n):
        for k in range(h):
            y = x[i, k] + bias[k]
            x[i, k] = y if y > zero else slope * y
