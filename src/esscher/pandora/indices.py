"""Reservation and backup values of one box, exact."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError

if TYPE_CHECKING:
    from esscher.pandora.box import Box
    from esscher.pandora.law import Law

__all__ = [
    "backup_value",
    "check_cost",
    "discrete_backup",
    "discrete_reservation",
    "reservation_value",
]

Array = NDArray[np.float64]


def check_cost(cost: float, whose: str) -> float:
    """A cost as a float.

    Raises:
        ConfigError: naming whose it is, unless it is finite and at least 0.
    """
    found = float(cost)
    if not (math.isfinite(found) and found >= 0):
        raise ConfigError(f"{whose}: the cost must be finite and at least 0, got {found:g}")
    return found


def discrete_reservation(values: Array, probs: Array, cost: float) -> float:
    """The σ with E(X - σ)⁺ = cost, of a finite law.

    E(X - g)⁺ is the largest of the lines T_j - M_j g, where M_j and T_j sum p and p·v over the
    atoms from the j-th up. All fall in g, so the root of the largest is the largest of the roots
    (T_j - cost) / M_j: no iteration, no tolerance.

    Args:
        values: [k] increasing.
        probs: [k] > 0, summing to 1.
        cost: at least 0. At 0 every g from the largest value up solves the equation; the largest
            value is returned.
    """
    if cost == 0:
        return float(values[-1])
    mass = np.cumsum(probs[::-1])
    total = np.cumsum((probs * values)[::-1])
    return float(np.max((total - cost) / mass))


def discrete_backup(values: Array, probs: Array, cost: float) -> float:
    """The β with E(β - X)⁺ = cost, of a finite law: minus the reservation value of -X.

    At cost 0 the least value is returned.
    """
    return -discrete_reservation(-values[::-1], probs[::-1], cost)


def reservation_value(of: Box | Law, cost: float | None = None) -> float:
    """Weitzman's index σ: E(X - σ)⁺ = cost. Below it in hand, a box is worth opening.

    Args:
        of: a box, or a law with its `cost`.
        cost: of the inspection; by default the box's own.

    Raises:
        ConfigError: if a law comes without a cost, or a cost is negative or not finite.
    """
    return _indices(of, cost)[0]


def backup_value(of: Box | Law, cost: float | None = None) -> float:
    """Doval's index β: E(β - X)⁺ = cost. A lone box is taken unseen with less than β in hand.

    β < E X < σ, or β ≥ E X ≥ σ and the box is never worth opening.

    Args:
        of: a box, or a law with its `cost`.
        cost: of the inspection; by default the box's own.

    Raises:
        ConfigError: if a law comes without a cost, or a cost is negative or not finite.
    """
    return _indices(of, cost)[1]


def _indices(of: Box | Law, cost: float | None) -> tuple[float, float]:
    """(σ, β)."""
    from esscher.pandora.box import Box  # noqa: PLC0415 - boxes are built on this module

    if isinstance(of, Box):
        priced = of if cost is None else of.replace(cost=cost)
        return priced.sigma, priced.beta
    if cost is None:
        raise ConfigError("a law has no cost of its own: give the cost of inspection as well")
    paid = check_cost(cost, type(of).__name__)
    return of.reservation_value(paid), of.backup_value(paid)
