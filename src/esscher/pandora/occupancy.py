"""Where the plays of a two-phase policy get to, in exact probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from esscher.pandora.instance import PandoraInstance
from esscher.pandora.policy import TwoPhasePolicy

__all__ = ["Visits", "best_of", "grid_points", "switching", "visits"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Visits:
    """Where plays of a policy get to, in exact probabilities.

    Attributes:
        opened: name of a box -> probability that it is opened.
        claimed: probability that the backup is claimed closed.
        reached: [k + 1] probability that phase 1 goes on after its first t boxes.
        spent: expected cost of all inspections.
    """

    opened: dict[str, float]
    claimed: float
    reached: tuple[float, ...]
    spent: float


def visits(policy: TwoPhasePolicy) -> Visits:
    """Probabilities of a two-phase policy's ways, in O(n K log K) for a grid of K points.

    Forwards along phase 1 goes the law of the best value seen; backwards, the boxes of each
    phase 2 are opened while all before them stay below their reservation value.
    """
    instance = policy.instance
    points = grid_points(instance)
    mass = np.zeros(len(points))
    mass[0] = 1.0  # the outside option, or nothing
    opened = np.zeros(len(instance))
    reached, switched = [], []
    for t in range(len(policy.order) + 1):
        goes = switching(policy, t, points)
        switched.append(np.where(goes, mass, 0.0))
        mass = np.where(goes, 0.0, mass)
        reached.append(float(mass.sum()))
        if t < len(policy.order):
            i = instance.index(policy.order[t])
            opened[i] = reached[-1]
            mass = best_of(mass, points, instance, i)
    _add_searches(opened, policy, points, switched)
    opened = np.minimum(opened, 1.0)  # sums of probabilities are off by their rounding
    claimed = 0.0 if policy.backup is None else reached[-1]
    costs = np.array([box.cost for box in instance.boxes])
    return Visits(
        {name: float(p) for name, p in zip(instance.names, opened, strict=True)},
        claimed,
        tuple(reached),
        float(costs @ opened),
    )


def best_of(mass: Array, points: Array, instance: PandoraInstance, i: int) -> Array:
    """[K] law of the better of what is in hand and box i, from the law of what is in hand.

    Args:
        mass: [K] probabilities at the points; they may sum to less than 1.
        points: [K] increasing; with all values of the box above the first point.
        instance: the boxes.
        i: place of the box.
    """
    box = instance.boxes[i]
    places = np.searchsorted(points, np.maximum(box.values, points[0]))
    law = np.bincount(places, weights=box.probs, minlength=len(points))
    below = np.cumsum(law) - law
    return mass * (below + law) + law * (np.cumsum(mass) - mass)


def grid_points(instance: PandoraInstance) -> Array:
    """[K] all that can be in hand: the outside option, -inf without one, and the values above."""
    values = np.concatenate([[instance.outside], *(box.values for box in instance.boxes)])
    return np.unique(np.maximum(values, instance.outside))


def switching(policy: TwoPhasePolicy, t: int, best: Array) -> NDArray[np.bool_]:
    """[N] whether the policy leaves phase 1 after t boxes of its order, with these in hand [N]."""
    if policy.backup is None and t == len(policy.order):
        return np.ones(best.shape, dtype=bool)
    # Elementwise, by the very comparison that `next_action` makes.
    return np.broadcast_to(cast(Any, policy).switches(t, best), best.shape)


def _add_searches(
    opened: Array, policy: TwoPhasePolicy, points: Array, switched: list[Array]
) -> None:
    """Add the probabilities with which the boxes are opened in phase 2."""
    instance = policy.instance
    ranked = [instance.index(name) for name in policy.search_order()]
    rank = {i: m for m, i in enumerate(ranked)}
    sigma = np.array([instance.boxes[i].sigma for i in ranked])
    places = np.searchsorted(points, sigma)
    closed = np.ones(len(ranked), dtype=bool)
    closed[[rank[instance.index(name)] for name in policy.order]] = False
    low = np.ones(len(ranked))
    for i in (i for i in ranked if closed[rank[i]]):
        _hold_below(low, instance, i, rank[i], sigma)
    for t in range(len(policy.order), -1, -1):
        below = np.append(0.0, np.cumsum(switched[t]))[places]
        opened[ranked] += np.where(closed, below * low, 0.0)
        if t:
            i = instance.index(policy.order[t - 1])
            closed[rank[i]] = True
            _hold_below(low, instance, i, rank[i], sigma)


def _hold_below(low: Array, instance: PandoraInstance, i: int, place: int, sigma: Array) -> None:
    """Multiply P(X_i < σ) into the boxes that come after it."""
    box = instance.boxes[i]
    below = np.append(0.0, np.cumsum(box.probs))
    low[place + 1 :] *= below[np.searchsorted(box.values, sigma[place + 1 :])]
