"""Best-of-n as a search through boxes that are all alike: when to stop opening."""

from __future__ import annotations

from dataclasses import dataclass

from esscher.kit.stopping import Array, BestOfN
from esscher.pandora.box import Box
from esscher.pandora.law import Law
from esscher.pandora.reservation import reservation_value

__all__ = ["BestOfN", "BoxLaw"]


@dataclass(frozen=True)
class BoxLaw:
    """Rewards that follow the law of a box, or a continuous law of `esscher.pandora.law`.

    Attributes:
        law: known beforehand; a box's own cost does not count.
    """

    law: Box | Law

    def fair_cap(self, rewards: Array, cost: float) -> float:
        """The reservation value, the same whatever has been seen."""
        del rewards
        if isinstance(self.law, Box):
            return self.law.replace(cost=cost).sigma
        return reservation_value(self.law, cost)
