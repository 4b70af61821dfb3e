"""A network's compiled parts, where numba is installed: sums of messages, and scores as a whole.

A message is LeakyReLU(LayerNorm(l_i + r_j + v_e w)) for every edge e from i to j. As plain tensors
it is written to memory and read again six times; one loop per edge keeps it in registers. What
enters has mean zero along its features, so that the norm needs no mean of its own. The number of
features comes as the length of a tuple, which the compiler knows: a row stays in a few vector
registers.

Scores of one small graph are some thirty products and loops of microseconds each, of which calls
from Python would take as long again. All that is compiled together stands in this file, as what
was compiled before is taken from disk until this file changes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.branch.compiling import compile_loop
from esscher.branch.weights import Convolution, Embedding, Graph, Head, Weights

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
Width = tuple[int, ...]


class Kernels(NamedTuple):
    """The compiled loops.

    Ends are l [S, h] and r [T, h or more], norm is w, gain and shift [h], edges are source, target
    and value [E]; a width is a tuple of h zeros.

    Attributes:
        forward: sums of messages by target, see `_sum_messages`.
        backward: their gradients, see `_backward`.
        score: scores of the candidates, see `_score`.
    """

    forward: Callable[..., None]
    backward: Callable[..., None]
    score: Callable[..., None]


@functools.cache
def compiled() -> Kernels:
    """The loops.

    Raises:
        MissingExtra: without numba.
    """
    helpers = _sum_messages, _product, _leaky, _embedded, _convolved, _read
    return Kernels(
        compile_loop(_sum_messages, reorder=True),
        compile_loop(_backward, reorder=True),
        compile_loop(_score, reorder=True, helpers=helpers),
    )


def _sum_messages(ends: Ends, norm: Norm, edges: Edges, width: Width, total: Floats) -> None:
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


def _score(graph: Graph, weights: Weights, with_state: bool, width: Width, z: Floats) -> None:
    """Into z [K]: advantages of the candidates, with the state's value where that is asked."""
    rows, columns, tree, edge_row, edge_column, value, candidates = graph
    row_maps, column_maps, to_rows, to_columns, head, state = weights
    sources = _embedded(columns, tree, column_maps)
    targets = _embedded(rows, tree[:0], row_maps)
    targets = _convolved(to_rows, (sources, targets), (edge_column, edge_row, value), width)
    slot = np.full(len(columns), -1, np.int32)
    mine = np.empty((len(candidates), len(width)), np.float32)
    for c in range(len(candidates)):
        slot[candidates[c]] = c
        for k in range(len(width)):
            mine[c, k] = sources[candidates[c], k]
    end = np.empty(len(edge_column), np.int32)
    for e in range(len(end)):
        end[e] = slot[edge_column[e]]
    mine = _convolved(to_columns, (targets, mine), (edge_row, end, value), width)
    _read(head, mine, z)
    if with_state:
        pooled = np.zeros((1, mine.shape[1] + 1), np.float32)
        for c in range(len(mine)):
            for k in range(mine.shape[1]):
                pooled[0, k] += mine[c, k] / np.float32(len(mine))
        pooled[0, -1] = np.log(np.float32(len(mine)))
        of_state = np.empty(1, np.float32)
        _read(state, pooled, of_state)
        shift = of_state[0]
        for advantage in z:
            shift -= advantage / np.float32(len(z))
        for c in range(len(z)):
            z[c] += shift


def _embedded(x: Floats, rest: Floats, maps: Embedding) -> Floats:
    """[n, h] of x [n, d], every row continued by the same rest [m], which is multiplied once."""
    first, second, bias = maps
    n, d = x.shape
    m, h = len(rest), second.shape[1]
    centre = spread = 0.0
    for t in range(m):
        centre += rest[t] / m
    few = np.zeros((d + 3, h), np.float32)
    for k in range(h):
        few[d, k] = first[d + m, k]
        for t in range(d):
            few[t, k] = first[t, k]
    for t in range(m):
        apart = rest[t] - centre
        spread += apart * apart
        for k in range(h):
            few[d + 1, k] += first[d + t, k]
            few[d + 2, k] += np.float32(apart) * first[d + t, k]
    normal = np.empty((n, d + 3), np.float32)
    for i in range(n):
        total = m * centre
        for k in range(d):
            total += x[i, k]
        mean = total / (d + m)
        square = spread + m * (centre - mean) * (centre - mean)
        for k in range(d):
            square += (x[i, k] - mean) * (x[i, k] - mean)
        factor = 1.0 / np.sqrt(square / (d + m) + EPS)
        for k in range(d):
            normal[i, k] = (x[i, k] - mean) * factor
        normal[i, d] = 1.0
        normal[i, d + 1] = (centre - mean) * factor
        normal[i, d + 2] = factor
    y = _product(normal, few)
    _leaky(y, np.zeros(h, np.float32))
    y = _product(y, second)
    _leaky(y, bias)
    return y


def _convolved(maps: Convolution, ends: Ends, edges: Edges, width: Width) -> Floats:
    """LeakyReLU of the join [T, h]; edges whose end is below 0 are passed over."""
    left, both_map, bias, edge, gain, shift, last, last_bias, join, join_bias = maps
    source, target = ends
    h = len(width)
    both = _product(target, both_map)
    for j in range(len(both)):
        for k in range(h):
            both[j, k] += bias[k]
    total = np.zeros((len(target), h), np.float32)
    _sum_messages((_product(source, left), both), (edge, gain, shift), edges, width, total)
    degree = np.zeros(len(target), np.float32)
    for j in edges[1]:
        if j >= 0:
            degree[j] += np.float32(1.0)
    total = _product(total, last)
    scale, eps, one = np.float32(1.0 / h), np.float32(EPS), np.float32(1.0)
    for j in range(len(total)):
        square = np.float32(0.0)
        for k in range(h):
            total[j, k] += degree[j] * last_bias[k]
            square += total[j, k] * total[j, k]
        factor = one / np.sqrt(square * scale + eps)
        for k in range(h):
            total[j, k] *= factor
    joined = _product(total, join)
    for j in range(len(joined)):
        for k in range(h):
            joined[j, k] += both[j, h + k]
    _leaky(joined, join_bias)
    return joined


def _read(maps: Head, x: Floats, numbers: Floats) -> None:
    """A number of every row of x [n, inputs]."""
    first, first_bias, second, second_bias, last = maps
    y = _product(x, first)
    _leaky(y, first_bias)
    y = _product(y, second)
    _leaky(y, second_bias)
    for i in range(len(y)):
        number = last[-1]
        for k in range(y.shape[1]):
            number += y[i, k] * last[k]
        numbers[i] = number


def _product(x: Floats, weight: Floats) -> Floats:
    """Compiled once for all."""
    y: Floats = np.dot(x, weight)
    return y


def _leaky(x: Floats, bias: Floats) -> None:
    """X ← LeakyReLU(x + b)."""
    zero, slope = np.float32(0.0), np.float32(SLOPE)
    for i in range(len(x)):
        for k in range(x.shape[1]):
            y = x[i, k] + bias[k]
            x[i, k] = y if y > zero else slope * y
