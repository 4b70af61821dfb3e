"""Group-relative policy optimisation, as published and without its normalisations.

Neither approximates the target: they are here to be compared with what does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.align.objectives.batch import TokenBatch

__all__ = ["KL_COEFFICIENT", "dr_grpo", "grpo"]

KL_COEFFICIENT = 0.04
"""Of the penalty in `grpo`, as published."""


def grpo(batch: TokenBatch) -> Tensor:
    """Advantages over their group's standard deviation, k3 per token as a loss, means over tokens.

    It does not approximate the target: the division makes β relative to the present spread of
    rewards, so that it collapses where the spread is small; k3 as a loss per token has a gradient
    of another divergence; and the mean over a text's tokens favours short texts that are good and
    long ones that are bad.

    Reference: Shao et al. (2024, DeepSeekMath), equation 3, with one update per batch, where the
    clipped ratio is 1.
    """
    mean, spread = _of_groups(batch)
    A = (batch.log_weight - mean) / (spread + 1e-4)
    u = batch.log_prior - batch.log_pi
    penalty = torch.expm1(u) - u
    gain = A[batch.row] * batch.log_pi - KL_COEFFICIENT * penalty
    return -(gain / batch.lengths[batch.row]).sum() / len(batch.lengths)


def dr_grpo(batch: TokenBatch) -> Tensor:
    """Advantages without the division, sums over tokens, no KL term.

    It does not approximate the target: without a KL term it is `rl` with the group's mean as the
    baseline, and collapses like it.

    Reference: Liu et al. (2025, "Understanding R1-Zero-like training"), section 3.2.
    """
    mean, _ = _of_groups(batch)
    A = batch.log_weight - mean
    return -(A[batch.row] * batch.log_pi).sum() / len(batch.lengths)


def _of_groups(batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the log-weights of each draw's group, [B]."""
    _, group = torch.unique(batch.groups, return_inverse=True)
    g = batch.log_weight.double()
    n = torch.bincount(group).double()
    mean = torch.zeros_like(n).index_add(0, group, g) / n
    square = torch.zeros_like(n).index_add(0, group, (g - mean[group]) ** 2)
    return mean[group], (square / (n - 1).clamp(min=1)).sqrt()[group]
