"""Who draws the texts of a `transformers` model, where it is not this library's own sampler.

Whatever draws, the model's own law scores the draws again, and the training sees those numbers.
The two disagree where an engine computes in other precision or order; the largest gap is kept, so
that it can be logged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from esscher.core.law import Draws
from esscher.errors import NumericsError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Backend", "Drawn", "Engine", "taken_gap"]


class Drawn(Protocol):
    """What an engine has to know of the law it draws from; see `TransformersLM`."""

    model: PreTrainedModel
    end: int
    context: int | None

    def save(self, path: Path | str) -> None:
        """Write the model in the layout of `save_pretrained`."""
        ...


Backend = Callable[[Drawn, list[list[int]], int, torch.Generator], Draws]
"""(law, n prompts as ids, most new tokens, randomness) -> n sequences and what the engine says of
their log-probabilities."""


class Engine:
    """A backend, and how far it was from the law that scored its draws again.

    Args:
        name: what messages call it.
        backend: draws.
    """

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self._backend = backend
        self._gap: float | None = None

    def draw(
        self, law: Drawn, prompts: list[list[int]], max_new: int, rng: torch.Generator
    ) -> Draws:
        """One continuation of each prompt, with the engine's own log-probabilities.

        Raises:
            NumericsError: if one of these is not finite.
        """
        drawn = self._backend(law, prompts, max_new, rng)
        bad = (~drawn.log_prob.isfinite()).nonzero()[:, 0]
        if len(bad):
            raise NumericsError(
                f"engine {self.name!r}: {len(bad)} of {len(prompts)} draws have log-probability "
                f"{float(drawn.log_prob[bad[0]])}: the network's logits are not finite, so its "
                "weights are damaged or its training diverged"
            )
        return drawn

    def compare(self, claimed: Tensor, own: Tensor) -> None:
        """Remember the largest gap of log-probabilities [n] to those of the law itself, nats."""
        if len(own):
            gap = float((claimed - own).abs().max())
            self._gap = gap if self._gap is None else max(self._gap, gap)

    def taken_gap(self) -> float | None:
        """The largest gap since the last call, nats; None where nothing was drawn."""
        gap, self._gap = self._gap, None
        return gap


def taken_gap(*laws: object) -> float | None:
    """The largest gap that engines of these laws met since the last call; None without any."""
    engines = {getattr(law, "engine", None) for law in laws} - {None}
    gaps = [engine.taken_gap() for engine in engines if isinstance(engine, Engine)]
    return max((gap for gap in gaps if gap is not None), default=None)
