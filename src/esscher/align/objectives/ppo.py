"""Proximal policy optimisation with the KL term inside the reward, which keeps the target."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["CLIP", "LAMBDA", "ClippedBatch", "gae", "ppo", "token_rewards"]

CLIP = 0.2
"""Furthest that the ratio of a token's probability to its old one is rewarded to move from 1."""
LAMBDA = 0.95
"""Of the advantages: 1 is the return itself, 0 the critic's one-step error."""


class ClippedBatch(NamedTuple):
    """The tokens of B draws; float64, nats.

    Attributes:
        log_pi: [N] of every token under the model; the only differentiable part.
        log_old: [N] of the same tokens under the law that drew them.
        advantage: [N] of every token.
        n_draws: B.
    """

    log_pi: Tensor
    log_old: Tensor
    advantage: Tensor
    n_draws: int


def ppo(batch: ClippedBatch) -> Tensor:
    """Advantages times the clipped ratio, summed over tokens, averaged over draws.

    With the rewards of `token_rewards` the first update of a batch descends KL(π‖p*). Advantages
    are not divided by their standard deviation and tokens not averaged, as either changes the
    target.

    Reference: Schulman et al. (2017), equation 7; Ziegler et al. (2019) for the KL in the reward.
    """
    ratio = (batch.log_pi - batch.log_old).exp()
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    return -torch.minimum(ratio * batch.advantage, clipped * batch.advantage).sum() / batch.n_draws


def token_rewards(
    log_pi: Tensor, log_prior: Tensor, log_weight: Tensor, lengths: Tensor, prior_power: float = 1.0
) -> Tensor:
    """[B, T] rewards whose sum is log P(x) - log π(x): the KL by token, the evidence at the end.

    Args:
        log_pi: [B, T] of the tokens under the law that drew them, 0 beyond a draw's end.
        log_prior: [B, T] under the prior, likewise.
        log_weight: [B] evidence, finite.
        lengths: [B] tokens per draw, at least 1.
        prior_power: of the prior in the target.
    """
    rewards = prior_power * log_prior - log_pi
    rewards[torch.arange(len(lengths)), lengths - 1] += log_weight
    return rewards


def gae(rewards: Tensor, values: Tensor, lam: float = LAMBDA) -> Tensor:
    """[B, T] generalised advantages with discount 1.

    Args:
        rewards: [B, T], 0 beyond a draw's end.
        values: [B, T + 1] expected rewards still to come before every token; 0 from the end on.
        lam: λ in [0, 1].

    Reference: Schulman et al. (2016), equation 16.
    """
    error = rewards + values[:, 1:] - values[:, :-1]
    out = torch.zeros_like(error)
    ahead = torch.zeros_like(error[:, 0])
    for t in range(error.shape[1] - 1, -1, -1):
        ahead = error[:, t] + lam * ahead
        out[:, t] = ahead
    return out
