"""A program as a reward: a line of JSON in for every text, a line with a number out."""

from __future__ import annotations

from esscher.kit.scale.program import ScoringProgram

__all__ = ["CommandReward"]


class CommandReward(ScoringProgram):
    """A reward computed by a program; see `ScoringProgram` for what it reads and writes.

    It is pickled as a `ScoringProgram`, so that the workers of a pool need not load this system.

    Attributes:
        identity: what tells it from other rewards in a cache on disk.
    """

    @property
    def identity(self) -> str:
        """The command."""
        return f"command {self.command}"
