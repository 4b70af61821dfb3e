"""Reward-weighted regression: once on the prior's draws, or over and over on one's own."""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.align.objectives.batch import Batch

__all__ = ["rwr", "rwr_iterated"]


def rwr(batch: Batch) -> Tensor:
    """Likelihood weighted by P/q with weights that sum to one per group: KL(p*‖π).

    On the prior's draws the weights are exp(G) over their sum. Dividing by the sum instead of n Z
    needs no normaliser and costs a bias of order 1/n.

    Reference: Peters and Schaal (2007); Korbak, Perez and Buckley (2022), section 5.
    """
    return _weighted_likelihood(batch, batch.log_target - batch.log_q)


def rwr_iterated(batch: Batch) -> Tensor:
    """The same weights exp(G) on the policy's own draws. It does not approximate the target.

    Every round tilts once more: after k of them the optimum is p0 exp(k G), so that it collapses.

    Reference: Peters and Schaal (2007), where the reward is maximised and this is wanted.
    """
    return _weighted_likelihood(batch, batch.log_weight)


def _weighted_likelihood(batch: Batch, log_w: Tensor) -> Tensor:
    _, group = torch.unique(batch.groups, return_inverse=True)
    n_groups = int(group.max()) + 1
    top = torch.full((n_groups,), -torch.inf, dtype=log_w.dtype)
    top = top.scatter_reduce(0, group, log_w.detach(), "amax")
    # A group in which every draw is ruled out says nothing.
    known = top[group] > -torch.inf
    w = torch.where(known, log_w.detach() - top[group], -torch.inf).exp()
    total = torch.zeros(n_groups, dtype=w.dtype).index_add(0, group, w)
    share = torch.where(known, w / total[group], 0.0)
    return -(share * batch.log_pi).sum() / n_groups
