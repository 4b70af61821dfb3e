"""Ancestral sampling with a key-value cache: exact draws and their log-probabilities in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.kit.lm.gpt import GPT, KVCache
from esscher.kit.lm.sequences import Sequences

__all__ = ["generate"]

COMPACT_BELOW = 0.8
"""The batch is compacted once this share of its rows is still unfinished: copying the cache costs
about as much as a few decoding steps, so doing it at every finished row does not pay."""


@torch.no_grad()
def generate(
    model: GPT, prompt: Tensor, n: int, *, max_new: int, end: int, rng: torch.Generator
) -> tuple[Sequences, Tensor]:
    """Draw n continuations of one prompt from the model's own law (no temperature, no truncation).

    Uniform numbers are drawn for the whole [max_new, n] grid up front, so a row's outcome does not
    depend on when other rows finish.

    Args:
        model: the network; dropout-free, so train and eval mode agree.
        prompt: [t] int64 ids including the start token; prefilled once and shared by all rows.
        n: number of draws.
        max_new: most tokens to generate per row, at least 1.
        end: id that ends a sequence.
        rng: source of randomness.

    Returns:
        The sequences and their log-probabilities [n] (float64, nats).
    """
    uniforms = torch.rand(max_new, n, 1, generator=rng)
    tokens = torch.full((n, max_new), end)
    log_prob = torch.zeros(n, dtype=torch.float64)
    lengths = torch.full((n,), max_new)
    finished = torch.zeros(n, dtype=torch.bool)
    cache = KVCache(model.config, 1, len(prompt) + max_new)
    logits = model.last_logits(prompt[None], cache).expand(n, -1)
    cache.select(torch.zeros(n, dtype=torch.long))
    alive = torch.arange(n)
    for t in range(max_new):
        chosen, step_log_prob = draw(logits, uniforms[t, alive])
        tokens[alive, t] = chosen
        running = ~finished[alive]
        log_prob[alive] += torch.where(running, step_log_prob.double(), 0.0)
        ended = alive[running & (chosen == end)]
        lengths[ended] = t + 1
        finished[ended] = True
        running = ~finished[alive]
        left = int(running.sum())
        if left == 0 or t + 1 == max_new:
            break
        if left < COMPACT_BELOW * len(alive):
            cache.select(running.nonzero()[:, 0])
            alive, chosen = alive[running], chosen[running]
        logits = model.last_logits(chosen[:, None], cache)
    width = int(lengths.max()) if n else 0
    return Sequences(tokens[:, :width], lengths, finished), log_prob


def draw(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Sample rows of [B, V] logits by inverting the distribution function at [B, 1] uniforms.

    Returns the ids [B] and their log-probabilities [B]. A 512-way inversion needs one random
    number per row where the Gumbel trick needs 512.
    """
    log_probs = torch.log_softmax(logits, -1)
    cumulative = log_probs.exp().cumsum(-1)
    ids = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    ids.clamp_(max=logits.shape[-1] - 1)
    return ids[:, 0], log_probs.gather(1, ids)[:, 0]
