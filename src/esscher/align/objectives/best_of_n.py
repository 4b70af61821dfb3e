"""Imitating the best draws: of the prior (best-of-n), or of oneself (RAFT)."""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.align.objectives.batch import Batch

__all__ = ["POOL", "best_of_n_distillation", "raft_iterated"]

POOL = 8
"""Draws of which the best one is imitated."""


def best_of_n_distillation(batch: Batch) -> Tensor:
    """Likelihood of the best of 8 of the prior's draws. It does not approximate the target.

    Its optimum is the law of best-of-8, which keeps nothing of the evidence but its order: no
    temperature of the evidence changes it, and it does not collapse. A draw counts by its chance to
    be the best of 8 chosen from its group at random, ties shared.

    Reference: Nakano et al. (2021) for best-of-n; Sessa et al. (2024) for its distillation.
    """
    return _best_likelihood(batch)


def raft_iterated(batch: Batch) -> Tensor:
    """Likelihood of the best of 8 of the policy's own draws. It does not approximate the target.

    Every round takes the best of the last round's law: it collapses onto the best-rewarded text.

    Reference: Dong et al. (2023).
    """
    return _best_likelihood(batch)


def _best_likelihood(batch: Batch) -> Tensor:
    """Mean over groups of -Σ w log π, with w the chance of being the best of `POOL`."""
    loss = torch.zeros((), dtype=batch.log_pi.dtype)
    groups = torch.unique(batch.groups)
    for group in groups:
        rows = (batch.groups == group).nonzero()[:, 0]
        loss = loss - (_chance(batch.log_weight[rows]) * batch.log_pi[rows]).sum()
    return loss / len(groups)


def _chance(weight: Tensor) -> Tensor:
    """Chance [n] of each of n draws to be the best of `POOL` drawn from them with replacement."""
    _, level, count = torch.unique(weight, return_inverse=True, return_counts=True)
    share = count.double().cumsum(0) / len(weight)
    below = torch.cat([torch.zeros(1, dtype=torch.float64), share[:-1]])
    chance: Tensor = ((share**POOL - below**POOL) / count)[level]
    return chance
