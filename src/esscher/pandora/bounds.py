"""Bounds on the optimum: two from above, and the committing policies from below."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esscher.pandora.instance import PandoraInstance
from esscher.pandora.weitzman import Grid

__all__ = [
    "Committing",
    "backup_bounds",
    "best_committing",
    "committing_values",
    "surrogate_bound",
    "upper_bound",
    "without_search",
]

Array = NDArray[np.float64]
BLOCK = 2**21
"""Numbers in one block of the table of distribution functions."""


@dataclass(frozen=True)
class Committing:
    """The best committing policy.

    Attributes:
        value: its expected payoff, in the units of the values.
        backup: the place of the box that is never opened, or None.
    """

    value: float
    backup: int | None


def surrogate_bound(instance: PandoraInstance) -> float:
    """E max(outside, max U_i), U_i = X_i held within [β_i, σ_i], or E X_i where β_i > σ_i.

    For one box, max(z, E X, -c + E max(X, z)) = E max(z, U) for every z. By induction on the
    closed boxes S, V(S, y) ≤ E max(y, max over S of U_i): opening i leaves at most
    -c_i + E max(X_i, y, Z), with Z the maximum over the others, and that is at most
    E max(y, Z, U_i). O(nK).
    """
    grid = Grid(instance)
    marks = np.array([m for b in grid.boxes for m in (b.beta, b.mean)])
    points = np.unique(np.concatenate([grid.points, np.maximum(marks, 0.0)]))
    product = np.ones(len(points) - 1)
    cells = np.searchsorted(grid.points, points[:-1], side="right") - 1
    for i, box in enumerate(grid.boxes):
        if box.beta > box.sigma:
            product *= points[:-1] >= box.mean
        else:
            product *= np.where(points[:-1] >= box.beta, grid.row(i)[cells], 0.0)
    return grid.base + float(points[-1] - np.diff(points) @ product)


def backup_bounds(grid: Grid) -> Array:
    """[n] no policy that may take box j alone unseen is worth more; from the base of the grid.

    The bound of `surrogate_bound` with κ_i = min(X_i, σ_i) in the place of U_i for i ≠ j, as
    max(z, -c + E max(X, z)) = E max(z, κ). It is E max(0, U_j, max κ_i) = W(N, β_j) where
    β_j ≤ σ_j. Where β_j > σ_j, U_j is constant and it is W(N without j, E X_j), which committing
    reaches.
    """
    full = grid.product(range(len(grid.boxes)))
    search = grid.search(full)
    betas = np.array([max(box.beta, 0.0) for box in grid.boxes])
    k = np.searchsorted(grid.points, betas, side="right") - 1
    cdf = np.append(full[:-1], 1.0)
    found: Array = search[k] + cdf[k] * (betas - grid.points[k])
    constant = np.array([box.beta > box.sigma for box in grid.boxes], dtype=bool)
    if constant.any():
        found[constant] = committing_values(grid)[constant]
    return found


def upper_bound(instance: PandoraInstance) -> float:
    """The best bound known without search, in the units of the values.

    An optimal policy takes at most one fixed box unseen, so the largest of `backup_bounds` and
    W(N, outside) is a bound. With obligatory inspection it is W(N, outside), the optimum. O(nK).
    """
    grid = Grid(instance)
    if instance.inspection == "obligatory":
        return grid.base + float(grid.search(grid.product(range(len(grid.boxes))))[0])
    return grid.base + without_search(grid)


def without_search(grid: Grid) -> float:
    """`upper_bound` of nonobligatory inspection, from the base of the grid."""
    plain = float(grid.search(grid.product(range(len(grid.boxes))))[0])
    return float(np.max(backup_bounds(grid), initial=plain))


def committing_values(grid: Grid) -> Array:
    """[n] W(N without j, E X_j): box j is never opened, the others are never taken unseen.

    The products without j come from running products from both ends, in blocks of columns:
    O(nK) time, and nothing is divided.
    """
    n, k = len(grid.boxes), len(grid)
    means = np.array([max(box.mean, 0.0) for box in grid.boxes])
    found: Array = np.maximum(means, grid.points[-1])
    width = max(BLOCK // max(n, 1), 1)
    for start in range(0, k - 1, width):
        stop = min(start + width, k - 1)
        rows = np.stack([grid.row(i)[start:stop] for i in range(n)]) if n else np.ones((0, 0))
        before, after = np.ones_like(rows), np.ones_like(rows)
        np.cumprod(rows[:-1], axis=0, out=before[1:])
        np.cumprod(rows[:0:-1], axis=0, out=after[-2::-1])
        before *= after
        left = np.maximum(grid.points[start:stop], means[:, None])
        width_above = np.maximum(grid.points[start + 1 : stop + 1] - left, 0.0)
        found -= np.einsum("ij,ij->i", before, width_above)
    return found


def best_committing(grid: Grid) -> Committing:
    """The best of the n + 1 committing policies; without a backup it is Weitzman's.

    The value is counted from the base of the grid.
    """
    plain = float(grid.search(grid.product(range(len(grid.boxes))))[0])
    values = committing_values(grid)
    if not len(values) or plain >= values.max() - grid.tie:
        return Committing(plain, None)
    j = int(np.argmax(values))
    return Committing(float(values[j]), j)
