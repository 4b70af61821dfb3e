"""Moves of Metropolis-Hastings on token sequences: rewrite the end, or a block inside."""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.core.law import Context, Samples
from esscher.core.mcmc import Move
from esscher.errors import ConfigError
from esscher.kit.lm.generate import generate_by_prompt
from esscher.kit.lm.scoring import passes
from esscher.kit.lm.sequences import Sequences
from esscher.kit.lm.token_model import TokenModel

__all__ = ["BlockKernel", "SuffixKernel", "log_prob_of"]

SCORED_TOKENS = 4096
"""Tokens per scoring pass."""


class SuffixKernel:
    """Cuts a sequence before a token chosen uniformly and lets a model write the rest.

    A sequence of L tokens, the end token included, can be cut at L places, so that the reverse move
    has probability 1/L' for the cut: forgetting that ratio favours long texts.

    Args:
        model: writes the rest; usually the prior, or a policy closer to the target.
    """

    def __init__(self, model: TokenModel) -> None:
        self.model = model

    def propose(self, x: Samples, *, context: Context, rng: torch.Generator) -> Move:
        """New sequences that share their beginning with the old ones."""
        old = self.model.sequences(x)
        place = _uniform(old.lengths, rng)
        prompts = self.model.prompts(context, len(old))
        new = _continued(self.model, old, place, prompts, rng)
        gain = log_prob_of(self.model, old, prompts) - log_prob_of(self.model, new, prompts)
        shorter = old.lengths.double().log() - new.lengths.double().log()
        return Move(self.model.of_sequences(new), gain + shorter)


class BlockKernel:
    """Rewrites a block of tokens in place, so that the length stays: a blocked Gibbs-like move.

    The block is drawn from the model given what precedes it; the rest is kept and decides, through
    the acceptance, whether it still fits. The end token is never part of a block, and a draw that
    holds one proposes the old state.

    Args:
        model: writes the block.
        size: most tokens per block, at least 1.

    Raises:
        ConfigError: if the size is below 1.
    """

    def __init__(self, model: TokenModel, size: int = 4) -> None:
        if size < 1:
            raise ConfigError(f"a block has at least 1 token, got size={size}")
        self.model = model
        self.size = size

    def propose(self, x: Samples, *, context: Context, rng: torch.Generator) -> Move:
        """New sequences that differ from the old ones in one block."""
        old = self.model.sequences(x)
        letters = old.lengths - old.finished.long()
        start = _uniform(letters.clamp(min=1), rng)
        size = (letters - start).clamp(min=0, max=self.size)
        prompts = self.model.prompts(context, len(old))
        tokens = old.tokens.clone()
        kept = size == 0
        for length in torch.unique(size).tolist():
            rows = (size == length).nonzero()[:, 0]
            if length == 0:
                continue
            begun = _prefixes(old.take(rows), start[rows], [prompts[i] for i in rows.tolist()])
            network, end = self.model.network, self.model.end
            block = generate_by_prompt(network, begun, max_new=length, end=end, rng=rng).x
            kept[rows] = block.lengths < length
            kept[rows] |= (block.tokens == end).any(1)
            at = start[rows, None] + torch.arange(length)
            padded = torch.nn.functional.pad(block.tokens, (0, length - block.tokens.shape[1]))
            tokens[rows[:, None], at] = padded
        tokens = torch.where(kept[:, None], old.tokens, tokens)
        new = Sequences(tokens, old.lengths, old.finished)
        until = start + size
        ratio = log_prob_of(self.model, _cut(old, until), prompts)
        ratio = ratio - log_prob_of(self.model, _cut(new, until), prompts)
        return Move(self.model.of_sequences(new), torch.where(kept, 0.0, ratio))


@torch.no_grad()
def log_prob_of(model: TokenModel, x: Sequences, prompts: list[list[int]]) -> Tensor:
    """[B] float64 log-probability, nats, of sequences or of their beginnings, token by token."""
    out = torch.zeros(len(x), dtype=torch.float64)
    rows = (x.lengths > 0).nonzero()[:, 0]
    some = [prompts[i] for i in rows.tolist()]
    for part in passes(x.take(rows), some, max_new=model.max_new, tokens=SCORED_TOKENS):
        log_probs = model.token_logits(part.ids, part.mask).log_softmax(-1)
        chosen = log_probs.gather(1, part.target[:, None])[:, 0].double().cpu()
        owner = rows[part.rows].repeat_interleave(part.lengths)
        out.index_add_(0, owner, chosen)
    return out


def _uniform(n: Tensor, rng: torch.Generator) -> Tensor:
    """One of 0 … n-1 for each of n [B]."""
    u = torch.rand(len(n), dtype=torch.float64, generator=rng)
    return (u * n).long().clamp(max=n - 1)


def _prefixes(x: Sequences, place: Tensor, prompts: list[list[int]]) -> list[list[int]]:
    """Prompts followed by the tokens before `place`."""
    rows = zip(prompts, x.tokens.tolist(), place.tolist(), strict=True)
    return [[*prompt, *tokens[:k]] for prompt, tokens, k in rows]


def _cut(x: Sequences, length: Tensor) -> Sequences:
    """The first `length` tokens of each sequence, which is then unfinished."""
    return Sequences(x.tokens, length, torch.zeros_like(x.finished))


def _continued(
    model: TokenModel, x: Sequences, place: Tensor, prompts: list[list[int]], rng: torch.Generator
) -> Sequences:
    """The sequences with everything from `place` on written anew."""
    tokens = torch.full((len(x), model.max_new), model.end)
    width = min(x.tokens.shape[1], model.max_new)
    tokens[:, :width] = x.tokens[:, :width]
    lengths, finished = place.clone(), torch.zeros_like(x.finished)
    for k in torch.unique(place).tolist():
        rows = (place == k).nonzero()[:, 0]
        begun = _prefixes(x.take(rows), place[rows], [prompts[i] for i in rows.tolist()])
        room = model.max_new - k
        rest = generate_by_prompt(model.network, begun, max_new=room, end=model.end, rng=rng).x
        tokens[rows, k : k + rest.tokens.shape[1]] = rest.tokens
        lengths[rows] += rest.lengths
        finished[rows] = rest.finished
    return Sequences(tokens[:, : int(lengths.max())], lengths, finished)
