"""Direct preference optimisation, with the evidence itself as the judge of pairs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from esscher.align.objectives.batch import Batch
from esscher.errors import ConfigError

__all__ = ["dpo"]


def dpo(batch: Batch) -> Tensor:
    """Bradley-Terry log loss of log π/p0 as the score, on pairs labelled by the evidence.

    Every pair of draws of a group is judged by P(x ≻ y) = σ(G(x) - G(y)), in expectation instead of
    by a coin. The loss is least where log π/p0 = G + const, which is the target; pairs may come
    from any law that covers it.

    Raises:
        ConfigError: if a group holds one draw.

    Reference: Rafailov et al. (2023), equation 7; Korbak, Perez and Buckley (2022) for the target.
    """
    score = batch.log_pi - (batch.log_target - batch.log_weight)
    total = torch.zeros((), dtype=score.dtype)
    groups = torch.unique(batch.groups)
    for group in groups:
        rows = (batch.groups == group).nonzero()[:, 0]
        if len(rows) < 2:
            raise ConfigError(f"dpo compares draws of a group, group {int(group)} has one")
        first, second = torch.triu_indices(len(rows), len(rows), 1)
        h = score[rows][first] - score[rows][second]
        g = batch.log_weight[rows]
        label = torch.sigmoid(g[first] - g[second])
        total = total - (label * logsigmoid(h) + (1 - label) * logsigmoid(-h)).mean()
    return total / len(groups)
