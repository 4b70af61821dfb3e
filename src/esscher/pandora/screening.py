"""What can be settled before any search: which boxes are never opened, first, or only late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esscher.pandora.bounds import backup_bounds
from esscher.pandora.instance import PandoraInstance
from esscher.pandora.policy import TwoPhasePolicy, order_value
from esscher.pandora.weitzman import Grid, opening_order

__all__ = ["Backup", "Reduced", "candidates", "reduce", "with_backup"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reduced:
    """An instance without the boxes that are never opened.

    Attributes:
        original: the instance it stands for.
        grid: of the boxes left, over the floor.
        names: of the boxes left.
        floor: the box whose mean is the floor, or None where it is the outside option.
    """

    original: PandoraInstance
    grid: Grid
    names: tuple[str, ...]
    floor: str | None

    def policy(self, order: Sequence[int], backup: int | None) -> TwoPhasePolicy:
        """The policy of the original that earns what this one earns over the floor.

        Without a backup Weitzman's order is written out, as it ends with the floor box.
        """
        if backup is not None:
            return TwoPhasePolicy(
                self.original, tuple(self.names[i] for i in order), self.names[backup]
            )
        if self.floor is None:
            return TwoPhasePolicy(self.original)
        places = opening_order([box.sigma for box in self.grid.boxes])
        return TwoPhasePolicy(self.original, tuple(self.names[i] for i in places), self.floor)

    def value(self, order: Sequence[int], backup: int | None) -> float:
        """What an order and a backup earn at least, in the units of the original."""
        return self.grid.base + order_value(self.grid, order, backup)


def reduce(instance: PandoraInstance) -> Reduced:
    """Leave out the boxes that no optimal policy opens.

    V(S, y) is convex in y with slopes in [0, 1], and y beyond the largest value, so it is
    E max(y, Z) for some Z. A box with β ≥ σ has max(z, E X, -c + E max(X, z)) = max(z, E X) for
    every z; in expectation over the Z of S without it, opening it is worth at most
    V(S without it, max(y, E X)). Taking it unseen at the end of that policy earns as much, so the
    box is nothing but E X in hand. The largest such mean is a new outside option, the floor. A
    box with σ at most the floor f gains at most E(X - f)⁺ ≤ c by being opened, as W(R, x) - A(R)
    ≤ W(R, x) - W(R, f) ≤ (x - f)⁺, and its mean is below σ, so it is left out as well.
    """
    boxes = instance.boxes
    floor, name = instance.base, None
    for box in boxes:
        if box.beta >= box.sigma and box.mean > floor:
            floor, name = box.mean, box.name
    left = [box for box in boxes if box.beta < box.sigma and box.sigma > floor]
    inner = PandoraInstance(left, floor)
    return Reduced(instance, Grid(inner), inner.names, name)


@dataclass(frozen=True)
class Backup:
    """The problem in which one box j is the only one that may be taken unseen.

    Attributes:
        box: j.
        bound: on the value of its policies, from the base of the grid.
        prefix: boxes that are opened first, in this order.
        pool: boxes that may then be opened before j is decided.
        rest: boxes, j among them, that are opened after the switch only.
    """

    box: int
    bound: float
    prefix: tuple[int, ...]
    pool: tuple[int, ...]
    rest: tuple[int, ...]


def candidates(grid: Grid, above: float) -> list[tuple[float, int]]:
    """(bound, j) of the boxes that may be worth more than `above` as a backup, best first.

    A box that costs nothing is opened rather than taken unseen.
    """
    bounds = backup_bounds(grid)
    found = [
        (float(bounds[j]), j)
        for j in range(len(bounds))
        if bounds[j] > above and grid.boxes[j].cost > 0
    ]
    return sorted(found, key=lambda pair: (-pair[0], pair[1]))


def with_backup(grid: Grid, j: int, bound: float) -> Backup:
    """Which boxes come first and which never come before j is decided, if only j is claimed.

    First come those that cost nothing, which lose nothing, and then those with σ_i ≥ σ_j, by
    falling σ. For let i have the largest σ, and let π be any policy. Let π' open i, take it if
    X_i ≥ σ_i, and else go on as π would with i open. Pricing i by κ_i = min(X_i, σ_i) bounds π
    from above, and π' loses nothing by it: where X_i ≥ σ_i it has σ_i in hand, and what the
    others may still bring is at most σ_i, their E max(U_j, max κ) being at most the largest σ.

    A box i outside `rest` D is of no use before the switch unless E (W(R, X_i) - A(R))⁺ > c_i for
    some R that holds D. Here A(R) ≥ W(R, 0) and A(R) ≥ W(R without j, μ_j), so that with M the
    maximum of κ over R without j

        W(R, x) - W(R, 0) = ∫_0^x P(max κ over R ≤ q) dq,     which falls as R grows, and
        W(R, x) - W(R without j, μ_j) = E max(x, κ_j, 0) - μ_j
            + ∫_0^μ_j P(M > m) P(max(x, κ_j) ≤ m) dm - ∫_μ_j^∞ P(M > m) P(max(x, κ_j) > m) dm,

    where P(M > m) is at most that of the whole pool, in the first integral, and at least that of
    D, in the second. D starts as {j} and takes in every box that fails, until none does.
    """
    boxes = grid.boxes
    free = [i for i in range(len(boxes)) if boxes[i].cost == 0 and i != j]
    paid = [i for i in range(len(boxes)) if boxes[i].cost > 0 and i != j]
    high = [i for i in paid if boxes[i].sigma >= boxes[j].sigma]
    ordered = [high[k] for k in opening_order([boxes[i].sigma for i in high])]
    pool = [i for i in paid if boxes[i].sigma < boxes[j].sigma]
    rest = [j]
    whole, known = grid.product(pool), np.ones(len(grid))
    while pool:
        gain = _gain(grid, j, whole, known)
        useless = [i for i in pool if boxes[i].probs @ gain[boxes[i].columns] <= boxes[i].cost]
        if not useless:
            break
        rest += useless
        pool = [i for i in pool if i not in set(useless)]
        known = known * grid.product(useless)
    return Backup(j, bound, (*free, *ordered), tuple(pool), tuple(rest))


def _gain(grid: Grid, j: int, whole: Array, known: Array) -> Array:
    """[K] bounds on W(R, x) - A(R) at the points, over all R between `known` and `whole`."""
    row = grid.row(j)
    search = grid.search(row * known)
    simple = search - search[0]
    mean = grid.boxes[j].mean
    low = np.clip(mean - grid.points[:-1], 0.0, grid.gaps)
    rare = low * (1.0 - whole[:-1]) * row[:-1]
    lost = (grid.gaps - low) * (1.0 - known[:-1])
    back = np.append(np.cumsum((rare + lost * row[:-1])[::-1])[::-1], 0.0)
    compared = grid.search(row) - mean + back - lost.sum()
    found: Array = np.maximum(np.minimum(simple, compared), 0.0)
    return found
