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
        columns: writes features of columns that change from node to node.
        sides: writes features of row sides.
    """

    columns: Callable[..., None]
    sides: Callable[..., None]


@functools.cache
def compiled_arithmetic() -> Arithmetic:
    """The passes.

    Raises:
        MissingExtra: if numba is not installed.
    """
    return Arithmetic(*(compile_loop(loop, reorder=False) for loop in (_columns, _sides)))


def _columns(
    found: tuple[Floats, Floats, Shorts],
    continuous: NDArray[np.bool_],
    scales: Scales,
    shown: Singles,
) -> None:
    """Into shown [n, 19], where entries of the basis are 0 before.

    Found were cost, bounds and value [4, n], reduced cost [n], and index, age and basis [3, n].
    """
    reals, reduced_cost, wholes = found
    for i in range(shown.shape[0]):
        low, high, value = reals[1, i], reals[2, i], reals[3, i]
        has_low, has_high = abs(low) < scales.infinity, abs(high) < scales.infinity
        shown[i, 5] = has_low
        shown[i, 6] = has_high
        shown[i, 7] = reduced_cost[i] / scales.norm
        shown[i, 8] = value
        shown[i, 9] = 0.0 if continuous[i] else value - math.floor(value + scales.feasible)
        shown[i, 10] = has_low and abs(value - low) <= scales.epsilon
        shown[i, 11] = has_high and abs(value - high) <= scales.epsilon
        shown[i, 12] = wholes[1, i] * scales.age
        shown[i, 15 + wholes[2, i]] = 1.0


def _sides(
    found: tuple[Floats, Floats, Shorts],
    sides: tuple[Shorts, Shorts, Floats, Floats],
    scales: Scales,
    shown: Singles,
) -> None:
    """Into shown [R, 5].

    Found were sides, constant, norm and dual [5, m] of the rows, their activity [m], and index,
    length and age [3, m]. A side is its row, 0 for left-hand or 1, sign over norm, signed cosine.
    """
    reals, activity, wholes = found
    row, right, scale, cosine = sides
    for i in range(shown.shape[0]):
        j = row[i]
        limit = reals[right[i], j]
        shown[i, 0] = (limit - reals[2, j]) * scale[i]
        shown[i, 1] = cosine[i]
        shown[i, 2] = abs(activity[j] - limit) <= scales.epsilon
        shown[i, 3] = reals[4, j] * scale[i] / scales.norm
        shown[i, 4] = wholes[2, j] * scales.age
