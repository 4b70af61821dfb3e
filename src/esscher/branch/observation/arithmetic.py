"""Features of rows and columns from what getters gave, in one pass each."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.branch.compiling import compile_loop

__all__ = ["Arithmetic", "Scales", "compiled_arithmetic"]

Floats = NDArray[np.float64]
Shorts = NDArray[np.int32]
Singles = NDArray[np.float32]


class Scales(NamedTuple):
    """What features are measured by.

    Attributes:
        norm: of the costs, 1 for 0.
        age: 1 / (LPs solved + 5).
        infinity, epsilon, feasible: SCIP's tolerances.
    """

    norm: float
    age: float
    infinity: float
    epsilon: float
    feasible: float


class Arithmetic(NamedTuple):
    """The compiled passes.

    Attributes:
        template: writes features of columns that stay from node to node.
        columns: writes those that change.
        edges: writes row sides and their entries.
        sides: writes features of row sides.
    """

    template: Callable[..., None]
    columns: Callable[..., None]
    edges: Callable[..., None]
    sides: Callable[..., None]


@functools.cache
def compiled_arithmetic() -> Arithmetic:
    """The passes.

    Raises:
        MissingExtra: if numba is not installed.
    """
    loops = _template, _columns, _edges, _sides
    return Arithmetic(*(compile_loop(loop, reorder=False) for loop in loops))


def _template(cost: Floats, kinds: Shorts, norm: float, shown: Singles) -> None:
    """Into shown [n, 19], 0 before; kinds [2, n] are SCIP's type and whether it is implied."""
    for i in range(shown.shape[0]):
        shown[i, 0] = cost[i] / norm
        kind = kinds[0, i]
        shown[i, 1 + (2 if kind != 0 and kinds[1, i] else kind)] = 1.0


def _columns(
    found: tuple[Floats, Floats, Floats, Floats, Shorts],
    scales: Scales,
    shown: Singles,
) -> None:
    """Into shown [n, 19], a copy of what `_template` wrote.

    Found were cost, bounds and value [4, n], reduced cost, value in the best solution and the
    average of solutions [1, n] each, huge where left open, and index, age and basis [3, n].
    """
    reals, reduced_cost, best, average, wholes = found
    for i in range(shown.shape[0]):
        low, high, value = reals[1, i], reals[2, i], reals[3, i]
        has_low, has_high = abs(low) < scales.infinity, abs(high) < scales.infinity
        shown[i, 5] = has_low
        shown[i, 6] = has_high
        shown[i, 7] = reduced_cost[0, i] / scales.norm
        shown[i, 8] = value
        shown[i, 9] = 0.0 if shown[i, 4] else value - math.floor(value + scales.feasible)
        shown[i, 10] = has_low and abs(value - low) <= scales.epsilon
        shown[i, 11] = has_high and abs(value - high) <= scales.epsilon
        shown[i, 12] = wholes[1, i] * scales.age
        shown[i, 13] = best[0, i] if abs(best[0, i]) < scales.infinity else 0.0
        shown[i, 14] = average[0, i] if abs(average[0, i]) < scales.infinity else 0.0
        shown[i, 15 + wholes[2, i]] = 1.0


def _edges(
    rows: tuple[Shorts, Floats, NDArray[np.bool_]],
    entries: tuple[Shorts, Floats],
    costs: tuple[Floats, float],
    sides: tuple[Shorts, Shorts, Floats, Floats],
    edges: tuple[Shorts, Shorts, Singles],
) -> None:
    """Sides of rows, left-hand before right-hand, and their entries, side by side.

    Rows are lengths [m], norms [m] and which sides are finite [2, m]; entries are columns and
    values; costs come with their norm. Sides [R] are as in `_sides`; edges are side, column, value.
    """
    lengths, norms, finite = rows
    at, value = entries
    cost, cost_norm = costs
    row, right, scale, cosine = sides
    edge_side, edge_column, edge_value = edges
    start = r = e = 0
    for i in range(len(lengths)):
        stop = start + lengths[i]
        product = 0.0
        for k in range(start, stop):
            product += value[k] * cost[at[k]]
        for side in range(2):
            if not finite[side, i]:
                continue
            factor = (2.0 * side - 1.0) / (norms[i] if norms[i] > 0 else 1.0)
            row[r], right[r] = i, side
            scale[r], cosine[r] = factor, product * factor / cost_norm
            for k in range(start, stop):
                edge_side[e], edge_column[e] = r, at[k]
                edge_value[e] = value[k] * factor
                e += 1
            r += 1
        start = stop


def _sides(
    found: tuple[Floats, Floats, Shorts],
    sides: tuple[Shorts, Shorts, Floats, Floats],
    scales: Scales,
    shown: Singles,
) -> None:
    """Into shown [R, 5].

    Found were sides, constant, norm and dual [5, m] of the rows, their activity [1, m], and index,
    length and age [3, m]. A side is its row, 0 for left-hand or 1, sign over norm, signed cosine.
    """
    reals, activity, wholes = found
    row, right, scale, cosine = sides
    for i in range(shown.shape[0]):
        j = row[i]
        limit = reals[right[i], j]
        shown[i, 0] = (limit - reals[2, j]) * scale[i]
        shown[i, 1] = cosine[i]
        shown[i, 2] = abs(activity[0, j] - limit) <= scales.epsilon
        shown[i, 3] = reals[4, j] * scale[i] / scales.norm
        shown[i, 4] = wholes[2, j] * scales.age
