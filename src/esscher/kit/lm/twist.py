"""A learnt twist: what every continuation of a prefix is worth, ψ(x_≤t) = E_p0[φ(x) | x_≤t]."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from esscher.kit.lm.gpt import GPT, KVCache

__all__ = ["Twist", "TwistDecoder"]


class Twist(nn.Module):
    """A copy of a law's network that gives log-odds of ψ(x_<t, v) for all next tokens v at once.

    ψ is the probability, under the law itself, that the finished sequence satisfies the evidence φ;
    with it the posterior's next-token law is p0(v | x_<t) ψ(x_<t, v) / ψ(x_<t). Before training it
    is 1/2 everywhere.

    Args:
        network: where the copy starts.

    Reference: Yang and Klein (2021, FUDGE); Zhao et al. (2024), section 3, for twists.
    """

    def __init__(self, network: GPT) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.level = nn.Parameter(torch.zeros(network.config.width))
        self.choice = nn.Parameter(torch.zeros(network.config.vocab_size, network.config.width))
        self.bias = nn.Parameter(torch.zeros(network.config.vocab_size))

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(ids [b, t], mask [b, t]) -> states [N, d] at the masked positions, row by row."""
        return self.network.states_at(ids, mask)

    def log_odds(self, states: Tensor) -> Tensor:
        """States [N, d] -> log-odds [N, V] of every next token.

        What all next tokens share is a direction of its own, so that it can be learnt before their
        differences are.
        """
        level = (states @ self.level)[:, None]
        return level + nn.functional.linear(states, self.choice, self.bias)

    def log_odds_of(self, states: Tensor, chosen: Tensor) -> Tensor:
        """States [N, d] -> log-odds [N] of the chosen next tokens, without the others."""
        direction = nn.functional.embedding(chosen, self.choice) + self.level
        return (states * direction).sum(-1) + self.bias[chosen]

    def prefill(self, prompts: Tensor, owner: Tensor, max_new: int) -> tuple[Tensor, TwistDecoder]:
        """Read prompts [P, t] once each; row i continues prompt `owner[i]`.

        Returns log ψ [n, V] of every next token and the decoder that goes on with the n rows.
        """
        p, t = prompts.shape
        cache = KVCache(self.network.config, p, t + max_new, self.choice.dtype)
        states = self.network.hidden(prompts, cache)[:, -1]
        cache.select(owner)
        return nn.functional.logsigmoid(self.log_odds(states)[owner]), TwistDecoder(self, cache)


class TwistDecoder:
    """Rows that continue one prompt, a token at a time."""

    def __init__(self, twist: Twist, cache: KVCache) -> None:
        self.twist = twist
        self.cache = cache

    def step(self, ids: Tensor) -> Tensor:
        """Append ids [B]; log ψ [B, V] of what follows."""
        states = self.twist.network.hidden(ids[:, None], self.cache)[:, -1]
        return nn.functional.logsigmoid(self.twist.log_odds(states))

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) the given rows."""
        self.cache.select(rows)
