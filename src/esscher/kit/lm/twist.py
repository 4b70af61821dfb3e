"""A learnt twist: what every continuation of a prefix is worth, ψ(x_≤t) = E_p0[φ(x) | x_≤t]."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from esscher.errors import ConfigError
from esscher.kit.lm.gpt import GPT, KVCache

__all__ = ["Rows", "Twist", "TwistDecoder", "log_psi", "of_log_psi"]


class Twist(nn.Module):
    """A copy of a law's network that values all next tokens v at once, ψ(x_<t, v).

    With the true ψ the posterior's next-token law is p0(v | x_<t) ψ(x_<t, v) / ψ(x_<t). A bounded
    twist is for evidence φ ≤ 1, above all for conditions, where ψ is the probability under the law
    itself that the finished sequence satisfies them.

    Args:
        network: where the copy starts.
        bounded: whether ψ is a probability, 1/2 before training, and the network gives its
            log-odds; if not, the network gives log ψ, 0 before training.

    Reference: Yang and Klein (2021, FUDGE); Zhao et al. (2024), section 3, for twists.
    """

    def __init__(self, network: GPT, *, bounded: bool = True) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.bounded = bounded
        self.level = nn.Parameter(torch.zeros(network.config.width))
        self.choice = nn.Parameter(torch.zeros(network.config.vocab_size, network.config.width))
        self.bias = nn.Parameter(torch.zeros(network.config.vocab_size))

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(ids [b, t], mask [b, t]) -> states [N, d] at the masked positions, row by row."""
        return self.network.states_at(ids, mask)

    def values(self, states: Tensor) -> Tensor:
        """States [N, d] -> log-odds, or log ψ where unbounded, [N, V] of every next token.

        What all next tokens share is a direction of its own, so that it can be learnt before their
        differences are.
        """
        level = (states @ self.level)[:, None]
        return level + nn.functional.linear(states, self.choice, self.bias)

    def values_of(self, states: Tensor, chosen: Tensor) -> Tensor:
        """States [N, d] -> `values` [N] of the chosen next tokens, without the others."""
        direction = nn.functional.embedding(chosen, self.choice) + self.level
        return (states * direction).sum(-1) + self.bias[chosen]

    def fill(self, worth: float) -> None:
        """Add what makes an untrained twist give every prefix log ψ = `worth`, nats."""
        nn.init.constant_(self.bias, of_log_psi(worth, bounded=self.bounded))

    def prefill(self, prompts: Tensor, owner: Tensor, max_new: int) -> tuple[Tensor, TwistDecoder]:
        """Read prompts [P, t] once each; row i continues prompt `owner[i]`.

        Returns log ψ [n, V] of every next token and the decoder that goes on with the n rows.
        """
        p, t = prompts.shape
        cache = KVCache(self.network.config, p, t + max_new, self.choice.dtype)

        def worth(ids: Tensor) -> Tensor:
            states = self.network.hidden(ids, cache)[:, -1]
            return log_psi(self.values(states), bounded=self.bounded)

        first = worth(prompts)[owner]
        cache.select(owner)
        return first, TwistDecoder(lambda ids: worth(ids[:, None]), cache)


class Rows(Protocol):
    """What keeps the rows of a batch."""

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) the given rows."""
        ...


class TwistDecoder:
    """Rows that continue one prompt, a token at a time.

    Args:
        worth: appends ids [B] and gives log ψ [B, V] of what follows.
        rows: what `worth` remembers of the rows.
    """

    def __init__(self, worth: Callable[[Tensor], Tensor], rows: Rows) -> None:
        self.step = worth
        self.select = rows.select


def log_psi(values: Tensor, *, bounded: bool) -> Tensor:
    """Log ψ, nats, of a twist's values."""
    return nn.functional.logsigmoid(values) if bounded else values


def of_log_psi(worth: float, *, bounded: bool) -> float:
    """The value whose log ψ is `worth`, nats.

    Raises:
        ConfigError: if a bounded twist is to be worth 1 or more.
    """
    if not bounded:
        return worth
    if worth >= 0:
        raise ConfigError(f"a bounded twist is worth less than 1; got log ψ = {worth:.6g}")
    return worth - math.log(-math.expm1(worth))
