"""Small networks of reinforcement learning, initialised from a generator of one's own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["Actor", "TwinCritic", "init_uniform", "mlp"]


def mlp(sizes: Sequence[int], *, rng: torch.Generator, layer_norm: bool = False) -> nn.Sequential:
    """Linear layers with ReLU between them.

    Args:
        sizes: widths from input to output, two at least.
        rng: of the initial weights, uniform within ±1/√fan-in.
        layer_norm: normalise before every ReLU.
    """
    layers: list[nn.Module] = []
    for number, (wide, narrow) in enumerate(itertools.pairwise(sizes)):
        # skip_init leaves the global generator alone.
        layer: nn.Linear = nn.utils.skip_init(nn.Linear, wide, narrow)  # type: ignore[no-untyped-call]
        init_uniform(layer, rng)
        layers.append(layer)
        if number < len(sizes) - 2:
            layers += [nn.LayerNorm(narrow), nn.ReLU()] if layer_norm else [nn.ReLU()]
    return nn.Sequential(*layers)


def init_uniform(layer: nn.Linear, rng: torch.Generator) -> None:
    """Weights and biases uniform within ±1/√fan-in, as torch has them by default."""
    bound = 1 / math.sqrt(layer.in_features)
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            parameter.uniform_(-bound, bound, generator=rng)


class Actor(nn.Module):
    """A deterministic policy on standardised observations: tanh of a network.

    Args:
        obs_dim: d.
        action_dim: m.
        hidden: widths of the hidden layers.
        rng: of the initial weights.
    """

    def __init__(
        self, obs_dim: int, action_dim: int, hidden: Sequence[int], *, rng: torch.Generator
    ) -> None:
        super().__init__()
        self.body = mlp((obs_dim, *hidden, action_dim), rng=rng)

    def forward(self, obs: Tensor) -> Tensor:
        """Actions [B, m] in (-1, 1) of observations [B, d]."""
        return cast("Tensor", self.body(obs)).tanh()


class TwinCritic(nn.Module):
    """Two separate networks from (s, a) to a value.

    Args:
        obs_dim: d.
        action_dim: m.
        hidden: widths of the hidden layers.
        rng: of the initial weights.
        layer_norm: in the hidden layers.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        *,
        rng: torch.Generator,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        sizes = (obs_dim + action_dim, *hidden, 1)
        self.first = mlp(sizes, rng=rng, layer_norm=layer_norm)
        self.second = mlp(sizes, rng=rng, layer_norm=layer_norm)

    def forward(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Both values [B] of pairs [B, d + m]."""
        return self.first(pair).squeeze(-1), self.second(pair).squeeze(-1)

    def q1(self, pair: Tensor) -> Tensor:
        """The first value [B] only, of pairs [B, d + m]."""
        return cast("Tensor", self.first(pair)).squeeze(-1)
