"""What the approximation scheme knows of sets of boxes: additive statistics, and gains from them.

Write K_S for the largest capped value in S (0 if none) and D(S, y) = E(K_S - y)^+, so that
Weitzman's value with y in hand is W(S, y) = y + D(S, y). The statistics of a box i are

    λ_i(z) = min(-log P(κ_i < z), L)  at cuts 0 < z_1 < ... < z_m = M,
    γ_i(y) = E(κ_i - y)^+             at tails M = y_0 < y_1 < ... ,

and sums of them over S bound D(S, .) from below, with an error that does not depend on n
(docs/systems/pandora.md, "The approximation scheme").
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Capped", "Opening", "Statistics", "gains", "statistics", "surplus"]

Array = NDArray[np.float64]


class Capped(NamedTuple):
    """The law of max(min(X, σ), 0) of one box.

    Attributes:
        values: [k] atoms >= 0, ascending.
        probs: [k] their probabilities.
    """

    values: Array
    probs: Array


class Opening(NamedTuple):
    """What opening one box costs and shows.

    Attributes:
        cost: its inspection cost, >= 0.
        shown: [k] positive parts of its atoms.
        probs: [k] their probabilities.
    """

    cost: float
    shown: Array
    probs: Array


class Statistics(NamedTuple):
    """Additive statistics of n boxes, and how sums of them bound D from below.

    Attributes:
        hidden: [n, m] λ_i at the cuts, nats.
        excess: [n, r] γ_i at the tails, units of value.
        steps: [m] widths of the cells that end at the cuts.
        cuts: [m] z_1 < ... < z_m, units of value.
        tails: [r] y_0 = M < y_1 < ..., units of value; none if no capped value exceeds M.
        kept: 1 - P(K_N > M), the share of γ that is certain.
    """

    hidden: Array
    excess: Array
    steps: Array
    cuts: Array
    tails: Array
    kept: float


def statistics(laws: list[Capped], committing: float, delta: float) -> Statistics:
    """Cuts and tails for error δ, and the statistics of all boxes at them.

    Args:
        laws: capped values of the n boxes.
        committing: C > 0, value of the best committing policy.
        delta: δ > 0, the error each of seven roundings may have, in units of value.
    """
    top = max(float(law.values[-1]) for law in laws)
    limit = min(2 * committing**2 / delta, max(top, delta))
    cuts = _cuts(laws, committing, delta, limit)
    ceiling = math.log(max(limit / delta, math.e))
    hidden = np.stack([_hidden(law, cuts, ceiling) for law in laws])
    tails = _tails(laws, limit, delta) if top > limit else np.zeros(0)
    excess = np.stack([_excess(law, tails) for law in laws])
    beyond = 1.0 - math.prod(float(law.probs[law.values <= limit].sum()) for law in laws)
    steps = np.diff(cuts, prepend=0.0)
    return Statistics(hidden, excess, steps, cuts, tails, 1.0 - beyond)


def surplus(stats: Statistics, hidden: Array, excess: Array, at: Array) -> Array:
    """Lower bounds of D(S, y).

    Args:
        stats: of all boxes.
        hidden: [m] Σ_S λ, or less.
        excess: [r] Σ_S γ, or less.
        at: [u] values of y >= 0.

    Returns:
        [u] numbers between D(S, y) minus seven times δ and D(S, y).
    """
    chance = -np.expm1(-np.maximum(hidden, 0.0))
    start = stats.cuts - stats.steps
    overlap = np.clip(stats.cuts - np.maximum(start, at[:, None]), 0.0, None)
    found: Array = overlap @ chance
    if not len(stats.tails):
        return found
    sure = stats.kept * np.append(np.maximum(excess, 0.0), 0.0)
    inside = at < stats.tails[0]
    cell = np.searchsorted(stats.tails, at, side="right")
    return found + np.where(inside, sure[0], sure[np.minimum(cell, len(stats.tails))])


def gains(openings: list[Opening], reference: float, surpluses: list[Array]) -> Array:
    """[n] what opening each box adds to a fallback: E(X^+ + d(X^+) - a)^+ - c.

    Args:
        openings: of the n boxes.
        reference: a, the fallback's value.
        surpluses: d at the atoms that each box shows.
    """
    found = [
        float(box.probs @ np.maximum(box.shown + extra - reference, 0.0)) - box.cost
        for box, extra in zip(openings, surpluses, strict=True)
    ]
    return np.array(found)


def _cuts(laws: list[Capped], committing: float, delta: float, limit: float) -> Array:
    """The atoms where they are few; else steps of δ that widen in proportion beyond C."""
    atoms = np.unique(np.concatenate([law.values for law in laws]))
    atoms = atoms[(atoms > 0) & (atoms < limit)]
    few = math.ceil(committing / delta) * (1 + max(0.0, math.log(limit / committing)))
    if len(atoms) < few:
        return np.append(atoms, limit)
    made = [delta]
    while made[-1] < limit:
        made.append(made[-1] + delta * max(1.0, made[-1] / committing))
    made[-1] = limit
    return np.array(made)


def _hidden(law: Capped, cuts: Array, ceiling: float) -> Array:
    below = np.append(0.0, np.cumsum(law.probs))[np.searchsorted(law.values, cuts, side="left")]
    with np.errstate(divide="ignore"):
        found: Array = -np.log(np.minimum(below, 1.0))
    return np.minimum(found, ceiling)


def _excess(law: Capped, tails: Array) -> Array:
    found: Array = np.maximum(law.values[:, None] - tails, 0.0).T @ law.probs
    return found


def _tails(laws: list[Capped], limit: float, delta: float) -> Array:
    """Points where Σ γ has fallen by δ since the last; piecewise linear between atoms."""
    atoms = np.unique(np.concatenate([law.values for law in laws]))
    atoms = np.append(limit, atoms[atoms > limit])
    total = np.sum([_excess(law, atoms) for law in laws], axis=0)
    levels = np.arange(float(total[0]), 0.0, -delta)
    found: Array = np.interp(levels, total[::-1], atoms[::-1])
    return np.unique(found)
