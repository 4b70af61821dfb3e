"""Mixtures of diagonal Gaussians whose parts depend on the state."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from esscher.kit.rl.networks import mlp
from esscher.offline.densities.base import BehaviourDensity

__all__ = ["LEAST_WEIGHT", "MDN", "Mixture", "MixtureLaw", "OracleDensity", "k_means"]

LEAST_WEIGHT = 0.05
"""Components lighter than this are no modes."""
_REACH = 1.05
"""Means lie in ±this, so that the edge of the box can be a mode."""


class Mixture(NamedTuple):
    """The mixture in B states.

    Attributes:
        log_weight: [B, K] log ρ_k(s).
        mean: [B, K, m].
        std: [B, K, m].
    """

    log_weight: Tensor
    mean: Tensor
    std: Tensor

    def log_prob(self, action: Tensor) -> Tensor:
        """Log Σ_k ρ_k N(a; m_k, diag s_k²) [B] for one action [B, m] per state."""
        z = (action[:, None] - self.mean) / self.std
        m = action.shape[-1]
        parts = -0.5 * z.square().sum(-1) - self.std.log().sum(-1) - 0.5 * m * math.log(2 * math.pi)
        return torch.logsumexp(self.log_weight + parts, 1)


class MixtureLaw(BehaviourDensity):
    """A density that is a mixture in every state."""

    @abstractmethod
    def mixture(self, obs: Tensor) -> Mixture:
        """The mixture in states [B, d]."""

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """Log π_b(a|s) [B], exact."""
        return self.mixture(obs).log_prob(action)

    @torch.no_grad()
    def sample(self, obs: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """[n, B, m] draws per state, not clipped to the box."""
        law = self.mixture(obs)
        pick = torch.multinomial(law.log_weight.exp(), n, replacement=True, generator=rng)
        index = pick[..., None].expand(-1, -1, self.action_dim)
        mean, std = law.mean.gather(1, index), law.std.gather(1, index)
        draws = mean + std * torch.randn(mean.shape, generator=rng)
        return draws.transpose(0, 1)

    @torch.no_grad()
    def centres(self, obs: Tensor, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The components' means [B, K, m], in the box, and [B, K] whether each is heavy enough."""
        del n, rng
        law = self.mixture(obs)
        heavy = law.log_weight >= math.log(LEAST_WEIGHT)
        # The heaviest counts whatever it weighs.
        heavy |= law.log_weight == law.log_weight.amax(1, keepdim=True)
        return law.mean.clamp(-1, 1), heavy

    @torch.no_grad()
    def modes(self, obs: Tensor) -> Tensor:
        """[B] heavy components that are more than two standard deviations from a heavier one."""
        law = self.mixture(obs)
        heavy = law.log_weight >= math.log(LEAST_WEIGHT)
        gap = law.mean[:, :, None] - law.mean[:, None]
        wide = torch.maximum(law.std[:, :, None], law.std[:, None])
        near = (gap / wide).square().mean(-1) < 4
        heavier = law.log_weight[:, None] > law.log_weight[:, :, None]
        own = heavy & ~(near & heavier & heavy[:, None]).any(2)
        return own.sum(1).clamp(min=1)

    @torch.no_grad()
    def within_variance(self, obs: Tensor) -> Tensor:
        """[B] Σ_k ρ_k mean_j s_kj²: how wide the components are, not how far apart."""
        law = self.mixture(obs)
        return (law.log_weight.exp() * law.std.square().mean(-1)).sum(1)


class MDN(MixtureLaw):
    """A mixture density network.

    One hidden network gives weights, means in ±1.05 (tanh) and standard deviations
    (floor + softplus). With one component it is a diagonal Gaussian.

    Args:
        obs_dim: d.
        action_dim: m.
        components: K >= 1.
        width: units of each of two hidden layers.
        std_floor: least standard deviation, > 0.
        start: [K, m] where the components begin; without it they tend to collapse onto one.
        rng: of the initial weights.

    Reference:
        Bishop (1994), "Mixture density networks".
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        *,
        components: int,
        width: int,
        std_floor: float,
        start: Tensor,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        self.action_dim, self.components, self.std_floor = action_dim, components, std_floor
        k, m = components, action_dim
        self.body = mlp((obs_dim, width, width, k * (1 + 2 * m)), rng=rng)
        head = self.body[-1]
        assert isinstance(head, nn.Linear)
        with torch.no_grad():
            head.weight.mul_(0.1)
            head.bias.zero_()
            head.bias[k : k + k * m] = (start.clamp(-1, 1) / _REACH).atanh().reshape(-1)
            head.bias[k + k * m :] = -1.0

    def mixture(self, obs: Tensor) -> Mixture:
        """The mixture in states [B, d]."""
        k, m = self.components, self.action_dim
        logits, mean, std = self.body(obs).split([k, k * m, k * m], 1)
        return Mixture(
            logits.log_softmax(1),
            _REACH * mean.tanh().view(-1, k, m),
            self.std_floor + functional.softplus(std).view(-1, k, m),
        )


class OracleDensity(MixtureLaw):
    """A mixture that is known, for problems that are made up.

    Args:
        action_dim: m.
        function: gives the mixture in states [B, d].
    """

    def __init__(self, action_dim: int, function: Callable[[Tensor], Mixture]) -> None:
        super().__init__()
        self.action_dim, self._function = action_dim, function

    def mixture(self, obs: Tensor) -> Mixture:
        """The mixture in states [B, d]."""
        return self._function(obs)


def k_means(rows: Tensor, k: int, rng: torch.Generator, rounds: int = 10) -> Tensor:
    """[k, m] centres of rows [n, m]: k-means++ starts and a few rounds of Lloyd."""
    centres = rows[torch.randint(len(rows), (1,), generator=rng)]
    for _ in range(k - 1):
        distance = torch.cdist(rows, centres).amin(1).square() + 1e-12
        centres = torch.cat([centres, rows[torch.multinomial(distance, 1, generator=rng)]])
    for _ in range(rounds):
        nearest = torch.cdist(rows, centres).argmin(1)
        count = torch.bincount(nearest, minlength=k)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, nearest, rows)
        centres = torch.where(count > 0, sums / count.clamp(min=1), centres)
    return centres
