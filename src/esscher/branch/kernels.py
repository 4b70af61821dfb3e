"""Compiled loops over edges, where numba is installed.

A message is LeakyReLU(LayerNorm(l_i + r_j + v_e w)) for every edge e from i to j. As plain tensors
it is written to memory and read again six times; one loop per edge keeps it in registers. What
enters has mean zero along its features, so that the norm needs no mean of its own. Loops are
compiled for one number of features: known to the compiler, a row stays in a few vector registers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.branch.compiling import compile_loop

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
    """The compiled loops, of h features.

    Ends are l [S, h] and r [T, h or more], norm is w, gain and shift [h], edges are source, target
    and value [E].

    Attributes:
        forward: sums of messages by target.
        backward: its gradients.
        standardise: rows to mean zero and variance one, with their factors.
        leaky: x ← LeakyReLU(x + b) in place.
        prepare: bias of the messages' right ends, and edges by target.
        standardise_sum: sums of messages to mean zero and variance one.
        join: x ← LeakyReLU(x + y + b) in place.
        ends: of edges, the candidate they end in.
        pool: mean of rows, and the logarithm of their number.
        read: a head's last map, to a number of every row.
    """

    forward: Callable[..., None]
    backward: Callable[..., None]
    standardise: Callable[..., None]
    leaky: Callable[..., None]
    prepare: Callable[..., None]
    standardise_sum: Callable[..., None]
    join: Callable[..., None]
    ends: Callable[..., None]
    pool: Callable[..., None]
    read: Callable[..., None]


@functools.cache
def compiled(h: int) -> Kernels:
    """The loops for h features.

    Raises:
        MissingExtra: without numba.
    """
    loops = (
        _forward_of(h), _backward_of(h), _standardise, _leaky, _prepare_of(h),
        _standardise_sum_of(h), _join_of(h), _ends, _pool, _read_of(h),
    )  # fmt: skip
    return Kernels(*(compile_loop(loop, reorder=True) for loop in loops))


def _forward_of(h: int) -> Callable[..., None]:
    scale = np.float32(1.0 / h)
    eps, slope, one, zero = np.float32(EPS), np.float32(SLOPE), np.float32(1.0), np.float32(0.0)

    def forward(ends: Ends, norm: Norm, edges: Edges, total: Floats) -> None:
        """Add messages to total [T, h]; a target below 0 is passed over."""
        left, right = ends
        weight, gain, shift = norm
        source, target, value = edges
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

    return forward


def _backward_of(h: int) -> Callable[..., None]:
    scale = np.float32(1.0 / h)
    eps, slope, one, zero = np.float32(EPS), np.float32(SLOPE), np.float32(1.0), np.float32(0.0)

    def backward(
        ends: Ends, norm: Norm, edges: Edges, up: Floats, slopes: tuple[Floats, ...]
    ) -> None:
        """Add to slopes, zero at first, of both ends, norm and value; up [T, h] comes in."""
        left, right = ends
        weight, gain, shift = norm
        source, target, value = edges
        d_left, d_right, d_weight, d_gain, d_shift, d_value = slopes
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

    return backward


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


def _prepare_of(h: int) -> Callable[..., None]:
    zero, one = np.float32(0.0), np.float32(1.0)

    def prepare(both: Floats, bias: Floats, target: Ints, total: Floats, degree: Floats) -> None:
        """Add a bias to the first half of both [T, 2 h], clear total, count edges by target."""
        for i in range(len(both)):
            degree[i] = zero
            for k in range(h):
                both[i, k] += bias[k]
                total[i, k] = zero
        for j in target:
            if j >= 0:
                degree[j] += one

    return prepare


def _standardise_sum_of(h: int) -> Callable[..., None]:
    scale, eps = np.float32(1.0 / h), np.float32(EPS)
    one, zero = np.float32(1.0), np.float32(0.0)

    def standardise_sum(x: Floats, degree: Floats, bias: Floats) -> None:
        """Rows of x [T, h] + degree ⊗ bias, of mean zero, to variance one in place."""
        row = np.empty(h, np.float32)
        for i in range(len(x)):
            square = zero
            for k in range(h):
                row[k] = x[i, k] + degree[i] * bias[k]
                square += row[k] * row[k]
            factor = one / np.sqrt(square * scale + eps)
            for k in range(h):
                x[i, k] = row[k] * factor

    return standardise_sum


def _join_of(h: int) -> Callable[..., None]:
    slope, zero = np.float32(SLOPE), np.float32(0.0)

    def join(x: Floats, both: Floats, bias: Floats) -> None:
        """Of x [T, h] and the second half of both [T, 2 h]."""
        for i in range(len(x)):
            for k in range(h):
                y = x[i, k] + both[i, h + k] + bias[k]
                x[i, k] = y if y > zero else slope * y

    return join


def _ends(column: Ints, candidates: Ints, columns: int, end: Ints) -> None:
    """Position among the candidates of every edge's column, -1 where it is none."""
    slot = np.full(columns, -1, np.int32)
    for k in range(len(candidates)):
        slot[candidates[k]] = k
    for e in range(len(column)):
        end[e] = slot[column[e]]


def _pool(x: Floats, pooled: Floats) -> None:
    """Into pooled [1, h + 1]."""
    n, h = x.shape
    pooled[:] = np.float32(0.0)
    for i in range(n):
        for k in range(h):
            pooled[0, k] += x[i, k]
    for k in range(h):
        pooled[0, k] /= np.float32(n)
    pooled[0, h] = np.log(np.float32(n))


def _read_of(h: int) -> Callable[..., None]:
    slope, zero = np.float32(SLOPE), np.float32(0.0)

    def read(x: Floats, bias: Floats, last: Floats, numbers: Floats) -> None:
        """LeakyReLU of x [n, h] + bias, by last [h + 1] with its own bias below, to numbers [n]."""
        for i in range(len(x)):
            number = last[h]
            for k in range(h):
                y = x[i, k] + bias[k]
                number += (y if y > zero else slope * y) * last[k]
            numbers[i] = number

    return read
