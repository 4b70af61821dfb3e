"""Sub-trajectory balance where every prefix may end: consistency between all pairs of prefixes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["LAMBDA", "PathBatch", "subtb"]

LAMBDA = 1.0
"""Weight of a pair of prefixes per token between them."""


class PathBatch(NamedTuple):
    """The prefixes of B draws; float64, nats.

    Attributes:
        gap: [B, T] log π(x_≤t) - log F(x_≤t) of the prefixes of length t = 0 …, differentiable,
            where the flow F(x_≤t) = P(x_≤t, end) / π(end | x_≤t), and P(x) of a draw cut at the
            length limit itself.
        inside: [B, T] bool, which prefixes there are.
    """

    gap: Tensor
    inside: Tensor


def subtb(batch: PathBatch) -> Tensor:
    """Squared differences of the gaps of every two prefixes of a draw, averaged over pairs, draws.

    At π = p* the flow is Z π(x_≤t), so that all gaps are -log Z and the loss is zero, whichever law
    drew; no normaliser is needed. With λ = 1 it is twice the variance of the gaps.

    Reference: Hu et al. (2024), equation 3; Madan et al. (2023) for λ.
    """
    place = torch.arange(batch.gap.shape[1])
    apart = place[None, :] - place[:, None]
    weight = torch.where(apart > 0, LAMBDA ** (apart.clamp(min=1) - 1).double(), 0.0)
    weight = weight * batch.inside[:, :, None] * batch.inside[:, None, :]
    square = (batch.gap[:, None, :] - batch.gap[:, :, None]) ** 2
    per_draw = (weight * square).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1.0)
    return per_draw.mean()
