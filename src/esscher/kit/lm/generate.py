"""Ancestral sampling with a key-value cache: exact draws and log-probabilities in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from esscher.core.law import Draws
from esscher.errors import NumericsError
from esscher.kit.lm.sequences import Sequences

__all__ = ["Decodable", "Decoder", "draw", "generate", "generate_by_prompt"]

COMPACT_BELOW = 0.9
"""The batch is compacted once this share of its rows is still unfinished: each time costs the copy
of a few rows and of the bookkeeping, so doing it at every finished row does not pay."""


class Decoder(Protocol):
    """Rows that share a prompt and grow by a token at a time."""

    def step(self, ids: Tensor) -> Tensor:
        """Append ids [B]; logits [B, V] of what follows."""
        ...

    def select(self, rows: Tensor) -> None:
        """Keep only the given rows [b]."""
        ...


class Decodable(Protocol):
    """A network that can be decoded."""

    def prefill(self, prompts: Tensor, owner: Tensor, max_new: int) -> tuple[Tensor, Decoder]:
        """Read prompts [P, t] once each; row i continues prompt `owner[i]`.

        Returns logits [n, V] of what follows and the decoder that goes on with the n rows.
        """
        ...


def generate(
    model: Decodable, prompt: Tensor, n: int, *, max_new: int, end: int, rng: torch.Generator
) -> tuple[Sequences, Tensor]:
    """Draw n continuations of one prompt from the model's own law (no temperature, no truncation).

    Uniform numbers are drawn for the whole [max_new, n] grid up front, so a row's outcome does not
    depend on when other rows finish.

    Args:
        model: the network, with dropout off.
        prompt: [t] int64 ids including the start token; prefilled once and shared by all rows.
        n: number of draws.
        max_new: most tokens to generate per row, at least 1.
        end: id that ends a sequence.
        rng: source of randomness.

    Returns:
        The sequences and their log-probabilities [n] (float64, nats).

    Raises:
        NumericsError: if the network's logits hold NaN or +inf.
    """
    uniforms = torch.rand(max_new, n, dtype=torch.float64, generator=rng)
    return _generate(model, prompt[None], torch.zeros(n, dtype=torch.long), uniforms, end)


@torch.no_grad()
def _generate(
    model: Decodable, prompts: Tensor, owner: Tensor, uniforms: Tensor, end: int
) -> tuple[Sequences, Tensor]:
    """Continue prompts [P, t]: row i continues `owner[i]` with its own uniforms [max_new, n].

    Rows share every pass, whichever prompt they continue.
    """
    max_new, n = uniforms.shape
    tokens = torch.full((n, max_new), end)
    log_prob, lengths = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.long)
    finished = torch.ones(n, dtype=torch.bool)
    logits, decoder = model.prefill(prompts, owner, max_new)
    # What follows is about the rows still decoded; they are written back when rows are dropped.
    alive = torch.arange(n)
    total, count, running = log_prob.clone(), lengths.clone(), finished.clone()
    for t in range(max_new):
        chosen, step_log_prob = draw(logits, uniforms[t, alive, None])
        tokens[alive, t] = chosen
        total += torch.where(running, step_log_prob, 0.0)
        count += running
        running &= chosen != end
        left = int(running.sum())
        if left == 0 or t + 1 == max_new:
            break
        if left < COMPACT_BELOW * len(alive):
            log_prob[alive], lengths[alive] = total, count
            kept = _without_gaps(running)
            decoder.select(kept)
            alive, chosen, running = alive[kept], chosen[kept], running[kept]
            total, count = total[kept], count[kept]
        logits = decoder.step(chosen)
    log_prob[alive], lengths[alive], finished[alive] = total, count, ~running
    _check_numbers(log_prob)
    width = int(lengths.max()) if n else 0
    return Sequences(tokens[:, :width], lengths, finished), log_prob


def _without_gaps(running: Tensor) -> Tensor:
    """Indices of the running rows: early ones in place, late ones in the gaps between them."""
    left = int(running.sum())
    rows = torch.arange(left)
    rows[~running[:left]] = left + running[left:].nonzero()[:, 0]
    return rows


def _check_numbers(log_prob: Tensor) -> None:
    n_nan = int(log_prob.isnan().sum())
    if n_nan:
        raise NumericsError(
            f"{n_nan} of {len(log_prob)} draws have log-probability NaN: the network's logits hold "
            "NaN or +inf, so its weights are damaged or its training diverged"
        )


def draw(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Sample rows of [B, V] logits by inverting the distribution function at [B, 1] uniforms.

    The inversion runs in float64: in float32 an id rarer than 2⁻²⁴ would be drawn either never or
    far too often. It needs one random number per row where the Gumbel trick needs V.

    Returns:
        The ids [B] and their log-probabilities [B], nats.
    """
    log_probs = torch.log_softmax(logits, -1)
    cumulative = log_probs.exp().cumsum(-1, dtype=torch.float64)
    ids = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    ids.clamp_(max=logits.shape[-1] - 1)
    return ids[:, 0], log_probs.gather(1, ids)[:, 0]


def generate_by_prompt(
    model: Decodable,
    prompts: Sequence[Sequence[int]],
    *,
    max_new: int,
    end: int,
    rng: torch.Generator,
) -> Draws:
    """Draw one continuation of each prompt; each distinct prompt is read once.

    Prompts of equal length are continued in one batch, without padding. The uniform numbers are
    drawn prompt by prompt, in order of first appearance, so that a prompt's draws do not depend on
    which other prompts follow it.

    Args:
        model: the network, with dropout off.
        prompts: n id lists, start token included.
        max_new: most tokens to generate per row, at least 1.
        end: id that ends a sequence.
        rng: source of randomness.

    Returns:
        n sequences in the order of the prompts, with log-probabilities [n].
    """
    rows: dict[tuple[int, ...], list[int]] = {}
    for i, prompt in enumerate(prompts):
        rows.setdefault(tuple(prompt), []).append(i)
    uniforms = {
        prompt: torch.rand(max_new, len(own), dtype=torch.float64, generator=rng)
        for prompt, own in rows.items()
    }
    batches: dict[int, list[tuple[int, ...]]] = {}
    for prompt in rows:
        batches.setdefault(len(prompt), []).append(prompt)
    parts = []
    for batch in batches.values():
        owner = torch.arange(len(batch)).repeat_interleave(
            torch.tensor([len(rows[prompt]) for prompt in batch])
        )
        grid = torch.cat([uniforms[prompt] for prompt in batch], 1)
        parts.append(_generate(model, torch.tensor(batch), owner, grid, end))
    place = [i for batch in batches.values() for prompt in batch for i in rows[prompt]]
    order = torch.argsort(torch.tensor(place))
    log_prob = torch.cat([torch.zeros(0, dtype=torch.float64), *(p[1] for p in parts)])
    return Draws(Sequences.join([p[0] for p in parts]).take(order), log_prob[order])
