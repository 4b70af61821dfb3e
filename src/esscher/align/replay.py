"""Draws of past steps, used again by objectives that hold for any law that drew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from esscher.align.propose import Scored
from esscher.kit.lm.sequences import Sequences

__all__ = ["KEPT", "Replay"]

KEPT = 16
"""Batches of a step's own draws that are kept."""


@dataclass
class Replay:
    """The draws of the last steps, in groups that share a prompt.

    Attributes:
        draws: all of them, oldest first; None before the first step.
    """

    draws: Scored | None = None

    def add(self, batch: Scored) -> None:
        """Keep a batch, and forget what is older than `KEPT` batches of its size."""
        joined = batch if self.draws is None else Scored.join([self.draws, batch])
        extra = len(joined.log_q) - KEPT * len(batch.log_q)
        if extra > 0:
            joined = joined.take(torch.arange(extra, len(joined.log_q)))
        self.draws = joined

    def sample(self, n: int, rng: torch.Generator) -> Scored | None:
        """About n of the draws, whole groups of them where there are prompts; None before any.

        Without prompts all draws are one group, of which n are taken without repetition.
        """
        if self.draws is None:
            return None
        if self.draws.context is None:
            order = torch.randperm(len(self.draws.log_q), generator=rng)
            return self.draws.take(order[:n])
        labels, sizes = torch.unique(self.draws.groups, return_counts=True)
        order = torch.randperm(len(labels), generator=rng)
        enough = int((sizes[order].cumsum(0) < n).sum()) + 1
        chosen = torch.isin(self.draws.groups, labels[order[:enough]])
        return self.draws.take(chosen.nonzero()[:, 0])

    def state_dict(self) -> dict[str, Any] | None:
        """Everything as nested tensors and numbers."""
        if self.draws is None:
            return None
        saved = self.draws._asdict()
        x = saved["x"]
        if isinstance(x, Sequences):
            saved["x"] = [x.tokens, x.lengths, x.finished]
        return saved

    @classmethod
    def of(cls, saved: dict[str, Any] | None) -> Replay:
        """What `state_dict` gave."""
        if saved is None:
            return cls()
        x = saved["x"]
        return cls(Scored(**saved | {"x": x if isinstance(x, Tensor) else Sequences(*x)}))
