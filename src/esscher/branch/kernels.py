"""Compiled loops over edges, where numba is installed.

A message is LeakyReLU(LayerNorm(l_i + r_j + v_e w)) for every edge e from i to j. As plain tensors
it is written to memory and read again six times; one loop per edge keeps it in registers. What
enters has mean zero along its features, so that the norm needs no mean of its own. The number of
features comes as the length of a tuple, which the compiler knows: a row stays in a few vector
registers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.branch.compiling import compile_loop

__all__ = ["EPS", "SLOPE", "Kernels", "compiled", "sum_messages"]

EPS = 1e-5
"""Of every LayerNorm."""
SLOPE = 0.01
"""Of every LeakyReLU below zero."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Ends = tuple[Floats, Floats]
Norm = tuple[Floats, Floats, Floats]
Edges = tuple[Ints, Ints, Floats]
Width = tuple[int, ...]


class Kernels(NamedTuple):
    """The compiled loops.

    Ends are l [S, h] and r [T, h or more], norm is w, gain and shift [h], edges are source, target
    and value [E]; a width is a tuple of h zeros.

    Attributes:
        forward: `sum_messages`.
        backward: its gradients.
    """

    forward: Callable[..., None]
    backward: Callable[..., None]


@functools.cache
def compiled() -> Kernels:
    """The loops.

    Raises:
        MissingExtra: without numba.
    """
    loops = sum_messages, _backward
    return Kernels(*(compile_loop(loop, reorder=True) for loop in loops))


def sum_messages(ends: Ends, norm: Norm, edges: Edges, width: Width, total: Floats) -> None:
    """Add messages to total [T, h]; a target below 0 is passed over."""
    left, right = ends
    weight, gain, shift = norm
    source, target, value = edges
    h = len(width)
    scale, eps, slope = np.float32(1.0 / h), np.float32(EPS), np.float32(SLOPE)
    zero, one = np.float32(0.0), np.float32(1.0)
    x = np.empty(h, np.float32)
    for e in range(len(source)):
        i, j, v = source[e], target[e], value[e]
        if j < 0:
            continue
        square = zero
        for k in range(h):
            x[k] = left[i, k] + right[j, k] + v * weight[k]
            square += x[k] * x[k]
        factor = one / np.sqrt(square * scale + eps)
        for k in range(h):
            y = x[k] * factor * gain[k] + shift[k]
            total[j, k] += y if y > zero else slope * y


def _backward(
    ends: Ends, norm: Norm, edges: Edges, width: Width, grads: tuple[Floats, ...]
) -> None:
    """Add to gradients, zero at first, of both ends, norm and value; first comes that of sums."""
    left, right = ends
    weight, gain, shift = norm
    source, target, value = edges
    up, d_left, d_right, d_weight, d_gain, d_shift, d_value = grads
    h = len(width)
    scale, eps, slope = np.float32(1.0 / h), np.float32(EPS), np.float32(SLOPE)
    zero, one = np.float32(0.0), np.float32(1.0)
    x, d = np.empty(h, np.float32), np.empty(h, np.float32)
    for e in range(len(source)):
        i, j, v = source[e], target[e], value[e]
        square = zero
        for k in range(h):
            x[k] = left[i, k] + right[j, k] + v * weight[k]
            square += x[k] * x[k]
        factor = one / np.sqrt(square * scale + eps)
        along = zero
        for k in range(h):
            x[k] *= factor
            y = x[k] * gain[k] + shift[k]
            dy = up[j, k] if y > zero else slope * up[j, k]
            d_gain[k] += dy * x[k]
            d_shift[k] += dy
            d[k] = dy * gain[k]
            along += d[k] * x[k]
        along *= scale
        by_value = zero
        for k in range(h):
            g = factor * (d[k] - along * x[k])
            d_left[i, k] += g
            d_right[j, k] += g
            d_weight[k] += v * g
            by_value += g * weight[k]
        d_value[e] = by_value
