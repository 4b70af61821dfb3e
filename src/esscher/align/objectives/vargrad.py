"""Log-variance loss: path consistency without a learnt normaliser."""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.align.objectives.batch import Batch

__all__ = ["vargrad"]


def vargrad(batch: Batch) -> Tensor:
    """½ Var_q[log π(x) - log P(x)] per group, zero exactly where π = p* on q's support.

    Needs no normaliser and no importance weights. On-policy its gradient equals that of
    `reverse_kl` draw by draw; off-policy it stays consistent.

    Reference: Richter et al. (2020); Zhang et al. (2023) for the per-context form.
    """
    d = batch.log_pi - batch.log_target
    _, group = torch.unique(batch.groups, return_inverse=True)
    count = torch.bincount(group).to(d.dtype)
    mean = torch.zeros_like(count).index_add(0, group, d) / count
    squares = torch.zeros_like(count).index_add(0, group, (d - mean[group]) ** 2)
    return (0.5 * squares / (count - 1)).mean()
