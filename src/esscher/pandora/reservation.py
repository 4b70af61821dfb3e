"""Reservation and backup values of boxes and of laws, whichever way they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esscher.errors import ConfigError
from esscher.pandora.box import Box
from esscher.pandora.indices import check_cost

if TYPE_CHECKING:
    from esscher.pandora.law import Law

__all__ = ["backup_value", "reservation_value"]


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
    if isinstance(of, Box):
        priced = of if cost is None else of.replace(cost=cost)
        return priced.sigma, priced.beta
    if cost is None:
        raise ConfigError("a law has no cost of its own: give the cost of inspection as well")
    paid = check_cost(cost, type(of).__name__)
    return of.reservation_value(paid), of.backup_value(paid)
