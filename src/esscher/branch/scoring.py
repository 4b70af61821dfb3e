"""A network's scores of one observation, compiled as a whole where numba is installed.

A network of 32 units on a small graph is some thirty products and loops of microseconds each, of
which calls from Python would take as long again. What is not a product of matrices is written out,
for the number of features that it is compiled for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from esscher.branch.compiling import compile_loop
from esscher.branch.kernels import EPS, SLOPE, Edges, Ends, Floats, Ints, Width, sum_messages

__all__ = ["Convolution", "Embedding", "Graph", "Head", "Weights", "compiled_score"]


class Graph(NamedTuple):
    """An observation as the compiled function takes it; the tree's features may be none."""

    rows: Floats
    columns: Floats
    tree: Floats
    edge_row: Ints
    edge_column: Ints
    edge_value: Floats
    candidates: Ints


class Embedding(NamedTuple):
    """Two maps after a norm, [in, out].

    Attributes:
        first: with the norm's gain in it and its bias below.
        second, bias: of the second map.
    """

    first: Floats
    second: Floats
    bias: Floats


class Convolution(NamedTuple):
    """A half-convolution after folding; maps are [in, out].

    Attributes:
        left: of sources, mean zero along outputs.
        both: [h, 2 h] of targets, to the message, mean zero, and to the join.
        bias: of messages, mean zero.
        edge: [h] of the coefficient, mean zero.
        gain, shift: of the messages' norm.
        last, last_bias: of their sum, mean zero.
        join, join_bias: of the normalised sum.
    """

    left: Floats
    both: Floats
    bias: Floats
    edge: Floats
    gain: Floats
    shift: Floats
    last: Floats
    last_bias: Floats
    join: Floats
    join_bias: Floats


class Head(NamedTuple):
    """Three maps, [in, out]; the last is one column with its bias below."""

    first: Floats
    first_bias: Floats
    second: Floats
    second_bias: Floats
    last: Floats


class Weights(NamedTuple):
    """Of a whole network; `state` stands for its head of the state, where it has one."""

    rows: Embedding
    columns: Embedding
    to_rows: Convolution
    to_columns: Convolution
    head: Head
    state: Head


@functools.cache
def compiled_score() -> Callable[..., None]:
    """`_score`, compiled.

    Raises:
        MissingExtra: without numba.
    """
    helpers = sum_messages, _product, _leaky, _embedded, _convolved, _read
    return compile_loop(_score, reorder=True, helpers=helpers)


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
    sum_messages((_product(source, left), both), (edge, gain, shift), edges, width, total)
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
