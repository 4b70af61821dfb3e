"""What every behaviour density can do."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["CHUNK", "BehaviourDensity"]

CHUNK = 4096
"""States whose draws are held at once."""


class BehaviourDensity(nn.Module, ABC):
    """A conditional density π_b(a|s) over actions in units of half the box.

    It lives on R^m, not on [-1, 1]^m: data sit on the edges of the box, where an inverse tanh would
    explode.

    Attributes:
        action_dim: m.
    """

    action_dim: int

    @abstractmethod
    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """Log π_b(a|s) [B], nats, of obs [B, d] and action [B, m]; has a gradient in the action."""

    def loss(self, obs: Tensor, action: Tensor, rng: torch.Generator) -> Tensor:
        """Scalar whose descent fits the density: minus the mean log-probability, or a bound."""
        del rng
        return -self.log_prob(obs, action).mean()

    @abstractmethod
    def sample(self, obs: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """[n, B, m] draws per state, not clipped to the box."""

    @torch.no_grad()
    def entropy(self, obs: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """[B] differential entropy in nats, as minus the mean log-probability of n draws per state.

        Its standard error per state is of the order of √(m / n).
        """
        found = []
        for part in torch.split(obs, CHUNK):
            draws = self.sample(part, n, rng)
            spread = part.expand(n, *part.shape).reshape(-1, part.shape[1])
            log_prob = self.log_prob(spread, draws.reshape(-1, draws.shape[-1]))
            found.append(-log_prob.view(n, -1).mean(0))
        return torch.cat(found)

    @torch.no_grad()
    def centres(self, obs: Tensor, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Candidate actions [B, K, m], in the box, and [B, K] whether each is worth considering.

        Draws, unless a density knows its modes.
        """
        draws = self.sample(obs, n, rng).clamp(-1, 1).transpose(0, 1)
        return draws, torch.ones(draws.shape[:2], dtype=torch.bool)
