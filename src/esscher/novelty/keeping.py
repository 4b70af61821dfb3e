"""How a long fit says what it has finished, and is told what was finished before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["InUnits", "Keeper"]


class Keeper(Protocol):
    """Hears of every piece of a fit that is finished; a fit given one goes on where it ended."""

    def recall(self) -> Mapping[str, Any] | None:
        """The state that was kept last, None where a fit begins."""

    def keep(
        self,
        done: int,
        total: int,
        state: Callable[[], Mapping[str, Any]],
        numbers: Mapping[str, object],
    ) -> None:
        """Take note of a finished piece.

        Args:
            done: pieces finished so far.
            total: of so many.
            state: gives all that is needed to go on from here; it may be called later, too.
            numbers: what is worth showing; those with a fraction are log densities, nats.
        """


@dataclass(frozen=True)
class InUnits:
    """A keeper that hears of log densities in the units of the data.

    Attributes:
        keeper: the keeper.
        shift: nats to subtract.
    """

    keeper: Keeper
    shift: float

    def recall(self) -> Mapping[str, Any] | None:
        """What the keeper knows."""
        return self.keeper.recall()

    def keep(
        self,
        done: int,
        total: int,
        state: Callable[[], Mapping[str, Any]],
        numbers: Mapping[str, object],
    ) -> None:
        """Tell the keeper."""
        shown = {
            name: value - self.shift if isinstance(value, float) else value
            for name, value in numbers.items()
        }
        self.keeper.keep(done, total, state, shown)
