"""What every trainer of branching offers the training loop."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from esscher.branch.learners.state import LearnerState
from esscher.branch.network import BipartiteNetwork
from esscher.branch.playing import Episode

__all__ = ["StateTrainer", "Trainer"]

StateT = TypeVar("StateT", bound=LearnerState)


class Trainer(Protocol):
    """Learns from one episode after another.

    Attributes:
        network: what is learnt.
        served: what is measured and kept.
        updates: gradient steps taken.
    """

    @property
    def network(self) -> BipartiteNetwork:
        """What is learnt."""
        ...

    @property
    def served(self) -> BipartiteNetwork:
        """What is measured and kept."""
        ...

    @property
    def updates(self) -> int:
        """Gradient steps taken."""
        ...

    def take(self, episode: Episode, progress: float) -> dict[str, float]:
        """Learn from an episode at a share of the budget; means of what the steps saw."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything the next episode needs."""
        ...

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        ...


class StateTrainer(Generic[StateT]):
    """What trainers have in common whose learner is a state.

    Args:
        state: of the learner, at its start.
    """

    def __init__(self, state: StateT) -> None:
        self.state = state

    @property
    def network(self) -> BipartiteNetwork:
        """What is learnt."""
        return self.state.network

    @property
    def served(self) -> BipartiteNetwork:
        """The network itself."""
        return self.state.network

    @property
    def updates(self) -> int:
        """Gradient steps taken."""
        return self.state.done
