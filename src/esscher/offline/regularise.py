"""What holds an actor to the data: regularisers, and how much each state weighs.

All of them are losses in units of half the action box; `OfflineConfig` says how they are put
together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.offline.densities.base import BehaviourDensity

__all__ = ["clipped_penalty", "entropy_weight", "q_scale", "relative_weight", "reverse_kl"]


def reverse_kl(
    density: BehaviourDensity,
    obs: Tensor,
    action: Tensor,
    *,
    std: float = 0.0,
    clip: float = float("inf"),
    rng: torch.Generator | None = None,
) -> Tensor:
    """[B] -log π_b(a + std · ε | s) / m: KL(N(a, std² I) ‖ π_b) / m up to a constant, by one draw.

    Its gradient is Σ_k r_k (a - m_k) / v_k / m with the responsibilities r_k: towards the nearest
    mode, and the stronger the narrower that is.

    Args:
        density: π_b, frozen.
        obs: [B, d].
        action: [B, m], with gradient.
        std: width of the policy around its action, >= 0.
        clip: largest norm of a sample's gradient, > 0.
        rng: of ε; needed where std > 0.
    """
    leaf = action.detach().requires_grad_()
    seen = leaf
    if std > 0:
        seen = leaf + std * torch.randn(leaf.shape, generator=rng)
    with torch.enable_grad():
        value = -density.log_prob(obs, seen) / action.shape[1]
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return clipped_penalty(value.detach(), slope, action, clip)


def clipped_penalty(value: Tensor, slope: Tensor, action: Tensor, clip: float) -> Tensor:
    """[B] values whose gradient in the action is the slope, no row of it longer than clip."""
    length = torch.linalg.vector_norm(slope, dim=1, keepdim=True)
    bounded: Tensor = slope * (clip / length.clamp(min=1e-12)).clamp(max=1)
    along: Tensor = (bounded * action).sum(1)
    return value + along - along.detach()


def relative_weight(log_weight: Tensor, low: float, high: float) -> Tensor:
    """[B] exp of log-weights, clipped to [low, high] and scaled to mean 1."""
    weight = log_weight.exp().clamp(low, high)
    return weight / weight.mean()


def entropy_weight(
    entropy: Tensor, action_dim: int, *, beta: float, low: float, high: float
) -> Tensor:
    """[B] the weight exp(-β (H - mean H) / m): large where the behaviour is narrow.

    The entropy and not the variance: two narrow modes far apart have a large variance, and leave as
    little room as one.
    """
    return relative_weight(-beta * (entropy - entropy.mean()) / action_dim, low, high)


def q_scale(q: Tensor, alpha: float) -> float:
    """λ = α / mean |Q| without gradient, at most 100 α where Q is near 0."""
    return alpha * min(1 / (float(q.detach().abs().mean()) + 1e-8), 100.0)
