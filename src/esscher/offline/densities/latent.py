"""A conditional variational autoencoder of actions: a lower bound of the log-probability."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from esscher.kit.rl.networks import mlp
from esscher.offline.densities.base import BehaviourDensity

__all__ = ["CVAE"]

RAMP = 400


class CVAE(BehaviourDensity):
    """a ~ N(f(s, z), diag g(s, z)²), z ~ N(0, I) of 2m dimensions, with an encoder q(z|s, a).

    `log_prob` is the importance-weighted bound with a fixed set of noise, so that it is one
    function of state and action.

    Args:
        obs_dim: d.
        action_dim: m.
        width: units of each of two hidden layers.
        std_floor: least standard deviation, > 0.
        draws: L >= 1 of the bound; 1 is the evidence lower bound.
        rng: of the initial weights and the fixed noise.

    Reference:
        Burda, Grosse, Salakhutdinov (2016); as behaviour density Wu et al. (2022),
        "Supported policy optimization".
    """

    noise: Tensor

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        *,
        width: int,
        std_floor: float,
        draws: int = 10,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        self.action_dim, self.std_floor, self.latent = action_dim, std_floor, 2 * action_dim
        self._calls = 0
        self.encoder = mlp((obs_dim + action_dim, width, width, 2 * self.latent), rng=rng)
        self.decoder = mlp((obs_dim + self.latent, width, width, 2 * action_dim), rng=rng)
        self.register_buffer("noise", torch.randn(draws, 1, self.latent, generator=rng))

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """Lower bound of log π_b(a|s) [B], in nats."""
        terms = self._terms(obs, action, self.noise)
        return torch.logsumexp(terms, 0) - math.log(len(terms))

    def loss(self, obs: Tensor, action: Tensor, rng: torch.Generator) -> Tensor:
        """Minus the mean evidence lower bound, with fresh noise.

        The code's price grows from 0 to 1 over the first `RAMP` calls; else a decoder that has not
        learnt to use the code yet never does.
        """
        self._calls += 1
        noise = torch.randn(1, len(obs), self.latent, generator=rng)
        return -self._terms(obs, action, noise, min(1.0, self._calls / RAMP)).mean()

    @torch.no_grad()
    def sample(self, obs: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """[n, B, m] draws per state, not clipped to the box."""
        mean, std = self._decode(obs, torch.randn(n, len(obs), self.latent, generator=rng))
        return mean + std * torch.randn(mean.shape, generator=rng)

    def _terms(self, obs: Tensor, action: Tensor, noise: Tensor, price: float = 1.0) -> Tensor:
        """[L, B] log p(a|s, z) + price · (log p(z) - log q(z|s, a)) at z drawn from q."""
        code, log_std = self.encoder(torch.cat([obs, action], 1)).chunk(2, 1)
        log_std = (log_std - 2).clamp(-5, 3)
        z = code + log_std.exp() * noise
        mean, std = self._decode(obs, z)
        likelihood = _normal(action, mean, std)
        prior = -0.5 * z.square().sum(-1)
        posterior = (-0.5 * noise.square() - log_std).sum(-1)
        terms: Tensor = likelihood + price * (prior - posterior)
        return terms

    def _decode(self, obs: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        given = torch.cat([obs.expand(len(z), *obs.shape), z], 2)
        mean, std = cast("Tensor", self.decoder(given)).chunk(2, 2)
        # Narrow at first: a wide decoder learns to pass the code over.
        return 1.05 * mean.tanh(), self.std_floor + functional.softplus(std - 3)


def _normal(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    z = (x - mean) / std
    return (-0.5 * z.square() - std.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
