"""Policies that decide beforehand, box by box, never to claim it closed or never to open it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from esscher.errors import ConfigError
from esscher.pandora.bounds import best_committing
from esscher.pandora.instance import PandoraInstance
from esscher.pandora.policy import Action, Claim, Open, Take
from esscher.pandora.weitzman import Grid, opening_order, weitzman_value

__all__ = ["CommittingPolicy", "best_commitment"]


@dataclass(frozen=True)
class CommittingPolicy:
    """Search all boxes but one by Weitzman's rule; that one is never opened, only claimed.

    Its mean is in hand from the start, as the outside option is. More than one such box is of no
    use: the one with the largest mean would always be claimed.

    Attributes:
        instance: the boxes.
        closed: the box that is never opened; None searches all of them.

    Raises:
        ConfigError: if there is no such box, or it may not be claimed because inspection is
            obligatory.
    """

    instance: PandoraInstance
    closed: str | None = None

    def __post_init__(self) -> None:
        if self.closed is None:
            return
        self.instance.index(self.closed)
        if self.instance.inspection == "obligatory":
            raise ConfigError(
                f"inspection is obligatory, so {self.closed!r} cannot be taken unseen"
            )

    @property
    def floor(self) -> float:
        """What the closed box is worth unseen; -inf without one."""
        return -math.inf if self.closed is None else self.instance.box(self.closed).mean

    @property
    def value(self) -> float:
        """The expected payoff, exact: E max(outside, E X_j, max over i ≠ j of min(X_i, σ_i))."""
        return weitzman_value(self.instance, self.floor, self.search_order())

    def search_order(self) -> tuple[str, ...]:
        """The boxes that may be opened, by falling reservation value."""
        boxes = self.instance.boxes
        places = opening_order([box.sigma for box in boxes])
        return tuple(boxes[i].name for i in places if boxes[i].name != self.closed)

    def next_action(self, opened: Mapping[str, float]) -> Action:
        """What to do after these boxes were opened with these values."""
        best = max([self.instance.outside, *opened.values()])
        for name in self.search_order():
            if self.instance.box(name).sigma <= max(best, self.floor):
                break
            if name not in opened:
                return Open(name)
        if best < self.floor and self.closed is not None:
            return Claim(self.closed)
        if best <= self.instance.outside:
            return Take(None)
        return Take(next(name for name, value in opened.items() if value == best))


def best_commitment(instance: PandoraInstance) -> CommittingPolicy:
    """The best of the n + 1 committing policies, worth at least 0.8 of the optimum.

    The factor is for values that are not negative, with an outside option of 0.

    Reference:
        Beyhaghi, Cai (2023); Guha, Munagala, Sarkar (2008).
    """
    if instance.inspection == "obligatory":
        return CommittingPolicy(instance)
    closed = best_committing(Grid(instance)).backup
    return CommittingPolicy(instance, None if closed is None else instance.names[closed])
