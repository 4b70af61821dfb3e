"""A conditional coupling flow of actions: exact log-probabilities without components."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from esscher.errors import ConfigError
from esscher.kit.rl.networks import mlp
from esscher.offline.densities.base import BehaviourDensity

__all__ = ["Flow"]


class Flow(BehaviourDensity):
    """Four affine couplings, each of one half of the action given the other half and the state.

    Args:
        obs_dim: d.
        action_dim: m >= 2.
        width: units of each of two hidden layers per coupling.
        std_floor: bounds how much a coupling may stretch, so that the density stays finite.
        rng: of the initial weights.

    Raises:
        ConfigError: if the action has one dimension only: there is nothing to couple.

    Reference:
        Dinh, Sohl-Dickstein, Bengio (2017), "Density estimation using Real NVP".
    """

    def __init__(
        self, obs_dim: int, action_dim: int, *, width: int, std_floor: float, rng: torch.Generator
    ) -> None:
        super().__init__()
        if action_dim < 2:
            raise ConfigError("a flow couples dimensions; with one action dimension take mdn")
        self.action_dim = action_dim
        self.bound = -math.log(std_floor) / 4
        half = action_dim // 2
        self.sizes = [(half, action_dim - half) if i % 2 == 0 else (action_dim - half, half)
                      for i in range(4)]  # fmt: skip
        self.parts = nn.ModuleList(
            mlp((obs_dim + kept, width, width, 2 * moved), rng=rng) for kept, moved in self.sizes
        )

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """Log π_b(a|s) [B], exact."""
        x, log_det = action, torch.zeros(len(action))
        for (kept, moved), part in zip(self.sizes, self.parts, strict=True):
            first, second = torch.split(x, [kept, moved], 1)
            shift, log_scale = self._affine(part, obs, first)
            second = (second - shift) * (-log_scale).exp()
            log_det = log_det - log_scale.sum(1)
            # Halves change places, so that each is moved twice.
            x = torch.cat([second, first], 1)
        base = (-0.5 * x.square() - 0.5 * math.log(2 * math.pi)).sum(1)
        return base + log_det

    @torch.no_grad()
    def sample(self, obs: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """[n, B, m] draws per state, not clipped to the box."""
        given = obs.expand(n, *obs.shape).reshape(-1, obs.shape[1])
        x = torch.randn(len(given), self.action_dim, generator=rng)
        for (kept, moved), part in reversed(list(zip(self.sizes, self.parts, strict=True))):
            second, first = torch.split(x, [moved, kept], 1)
            shift, log_scale = self._affine(part, given, first)
            x = torch.cat([first, second * log_scale.exp() + shift], 1)
        return x.view(n, len(obs), -1)

    def _affine(self, part: nn.Module, obs: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = part(torch.cat([obs, kept], 1)).chunk(2, 1)
        return shift, self.bound * raw.tanh()
