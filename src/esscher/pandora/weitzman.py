"""Values of obligatory search: W(S, y) = E max(y, max over S of min(X_i, σ_i)).

All of it lives on one grid: the distinct values and reservation values above the outside option,
which is 0 there. Between its points every distribution function is constant, so sums over the
grid are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError

if TYPE_CHECKING:
    from esscher.pandora.box import Box
    from esscher.pandora.instance import PandoraInstance

__all__ = ["TIE", "Grid", "GridBox", "opening_order", "weitzman_value"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
TIE = 1e-12
"""Values closer than this, relative to the largest value, count as equal."""

ROWS = 2**22
"""Numbers in the distribution functions of all boxes up to which they are kept."""


@dataclass(frozen=True)
class GridBox:
    """One box, with the outside option subtracted from its values.

    Attributes:
        cost: of opening it.
        mean: E X - base.
        sigma: σ - base.
        beta: β - base.
        probs: [k] of its values.
        columns: [k] where max(value, 0) is on the grid.
        low: [m] increasing columns where P(κ ≤ ·) rises, with the last σ.
        cdf: [m] P(κ ≤ ·) from there on.
    """

    cost: float
    mean: float
    sigma: float
    beta: float
    probs: Array
    columns: Index
    low: Index
    cdf: Array


class Grid:
    """The boxes of an instance on their common grid, values counted from the outside option.

    Attributes:
        base: what was subtracted from all values.
        points: [K] increasing, from 0.
        boxes: in the order of the instance.
    """

    def __init__(self, instance: PandoraInstance) -> None:
        self.base = instance.base
        shifted = [box.values - self.base for box in instance.boxes]
        sigmas = np.array([box.sigma - self.base for box in instance.boxes])
        self.points: Array = np.unique(np.maximum(np.concatenate([[0.0], sigmas, *shifted]), 0.0))
        self._rows: dict[int, Array] = {}
        self.boxes = tuple(
            self._box(box, values, float(sigma))
            for box, values, sigma in zip(instance.boxes, shifted, sigmas, strict=True)
        )

    def _box(self, box: Box, values: Array, sigma: float) -> GridBox:
        capped = np.maximum(np.minimum(values, sigma), 0.0)
        low, first = np.unique(np.searchsorted(self.points, capped), return_index=True)
        below = np.cumsum(box.probs)
        return GridBox(
            box.cost,
            box.mean - self.base,
            sigma,
            box.beta - self.base,
            box.probs,
            np.searchsorted(self.points, np.maximum(values, 0.0)),
            low,
            np.append(below[first[1:] - 1], 1.0),
        )

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def gaps(self) -> Array:
        """[K - 1] distances between neighbouring points."""
        return np.diff(self.points)

    @cached_property
    def scale(self) -> float:
        """The largest value, at least the least positive float: the unit of ties."""
        return max(float(self.points[-1]), np.finfo(float).tiny)

    @cached_property
    def tie(self) -> float:
        """Values that differ by less count as equal."""
        return TIE * self.scale

    def row(self, i: int) -> Array:
        """[K] P(κ_i ≤ ·); not to be written to."""
        if i not in self._rows:
            row = self._row(i)
            if len(self.boxes) * len(self.points) > ROWS:
                return row
            self._rows[i] = row
        return self._rows[i]

    def _row(self, i: int) -> Array:
        box = self.boxes[i]
        return np.repeat(
            np.concatenate([[0.0], box.cdf]),
            np.diff(np.concatenate([[0], box.low, [len(self.points)]])),
        )

    def product(self, boxes: Iterable[int]) -> Array:
        """[K] P(max of κ over these boxes ≤ ·), 1 for none."""
        found = np.ones(len(self.points))
        for i in boxes:
            found *= self.row(i)
        return found

    def search(self, cdf: Array) -> Array:
        """[K] W(S, ·) at the points, where `cdf` is the product over S.

        W(S, g_k) = g_K - Σ_{q ≥ k} (g_{q+1} - g_q) P(max κ ≤ g_q).
        """
        value = np.empty(len(self.points))
        value[-1] = self.points[-1]
        value[:-1] = self.points[-1] - np.cumsum((self.gaps * cdf[:-1])[::-1])[::-1]
        return value

    def at(self, cdf: Array, y: float) -> float:
        """W(S, y) at any y ≥ 0: linear between points, and y itself beyond the last."""
        if y >= self.points[-1]:
            return y
        k = int(np.searchsorted(self.points, y, side="right")) - 1
        return float(self.search(cdf)[k] + cdf[k] * (y - self.points[k]))


def opening_order(sigmas: Sequence[float] | Array) -> list[int]:
    """Places by falling reservation value; of equal ones the first comes first."""
    return [int(i) for i in np.argsort(-np.asarray(sigmas, dtype=float), kind="stable")]


def weitzman_value(
    instance: PandoraInstance, y: float = -math.inf, names: Iterable[str] | None = None
) -> float:
    """The value of the best search that opens every box it takes, with y in hand.

    Boxes are opened by falling reservation value until the best value seen is at least the next
    one (Weitzman 1979); its value is E max(y, outside, max κ_i).

    Args:
        instance: the boxes.
        y: what is in hand besides the outside option; -inf for nothing.
        names: of the boxes that are still closed; all of them by default.

    Raises:
        ConfigError: if y is NaN or +inf, or a name is unknown.
    """
    if math.isnan(y) or y == math.inf:
        raise ConfigError(f"y must be a value in hand or -inf, got {y}")
    closed = range(len(instance)) if names is None else sorted({instance.index(n) for n in names})
    grid = Grid(instance)
    return grid.base + grid.at(grid.product(closed), max(y - grid.base, 0.0))
