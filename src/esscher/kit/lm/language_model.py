"""What every trainable language model here can do, whatever stands behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from esscher.core import law
from esscher.core.law import Context, Draws, Samples
from esscher.errors import DataError

__all__ = ["LanguageModel", "Recipe", "chunks_by_length", "contexts_of"]

CHUNK_COST = 96
"""What a chunk costs beside its tokens, in tokens."""


@dataclass(frozen=True)
class Recipe:
    """Training settings that suit a model, used where the user names none.

    Attributes:
        lr: peak learning rate of Adam where whole sequences are credited.
        floored_lr: the same for objectives in which a ruled-out draw has a finite, large cost.
        token_lr: the same where tokens are, which is less noisy.
        steps: optimiser steps.
        batch: sequences per step.
        noisy_batch: sequences per step for objectives whose gradient noise stays at the optimum.
    """

    lr: float
    floored_lr: float
    token_lr: float
    steps: int
    batch: int
    noisy_batch: int


@runtime_checkable
class LanguageModel(Protocol):
    """A `Law` over token sequences whose parameters can be trained.

    Samples are `Sequences` (or index tensors for an enumerable model); `log_prob` gives values
    without a graph, `log_prob_chunks` the same numbers with one.
    """

    @property
    def recipe(self) -> Recipe:
        """Training settings that suit this model."""
        ...

    def sample(self, n: int, *, context: Context = None, rng: torch.Generator) -> Draws:
        """N draws from the model's own law, with their log-probabilities from the same pass."""
        ...

    def log_prob(self, x: Samples, *, context: Context = None) -> Tensor:
        """[B] float64, nats, no graph."""
        ...

    def log_prob_chunks(
        self, x: Samples, *, context: Context = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(index [b], log-probability [b] with graph) pairs that cover the batch once.

        Each chunk is small enough to be differentiated on its own.
        """
        ...

    def graph_bytes(self, x: Samples, *, context: Context = None) -> int:
        """About how many bytes the graphs of all chunks take together."""
        ...

    def items(self, x: Samples) -> Sequence[Any]:
        """What evidence functions receive: texts, or token-id lists."""
        ...

    def clone(self) -> LanguageModel:
        """An independent copy."""
        ...

    def module(self) -> nn.Module:
        """The parameters that training changes."""
        ...

    def save(self, path: Path) -> None:
        """Write the model into a folder that loading gives back."""
        ...


def contexts_of(context: Context, n: int) -> list[str] | None:
    """One prompt per draw from one for all, a list or tuple of n, or none.

    Raises:
        ShapeError: if a list or tuple has another length than n.
        DataError: if a prompt is not a text.
    """
    contexts = law.contexts_of(context, n)
    if contexts is None:
        return None
    for i, prompt in enumerate(contexts):
        if not isinstance(prompt, str):
            raise DataError(f"prompt {i} is a {type(prompt).__name__}; expected a str")
    return list(contexts)


def chunks_by_length(lengths: Tensor, tokens: int) -> Iterator[Tensor]:
    """Indices sorted by length, split so that rows × longest stays within `tokens`.

    Among such splits it is the one with the least padding, where another chunk counts as much as
    `CHUNK_COST` tokens of it: on ragged text sorting saves about half the work, and the choice of
    the splits another tenth. A row longer than `tokens` gets a chunk of its own.
    """
    order = torch.argsort(lengths, stable=True)
    ordered = lengths[order].numpy()
    cost = np.zeros(len(ordered) + 1)
    start = np.zeros(len(ordered) + 1, dtype=np.int64)
    for stop in range(1, len(ordered) + 1):
        longest = max(1, int(ordered[stop - 1]))
        first = max(0, stop - max(1, tokens // longest))
        total = cost[first:stop] + longest * np.arange(stop - first, 0, -1)
        best = int(total.argmin())
        start[stop], cost[stop] = first + best, total[best] + CHUNK_COST
    stops = [len(ordered)]
    while stops[-1] > 0:
        stops.append(int(start[stops[-1]]))
    for stop, begin in zip(stops[-2::-1], stops[:0:-1], strict=True):
        yield order[begin:stop]
