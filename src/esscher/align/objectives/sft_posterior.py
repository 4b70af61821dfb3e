"""Maximum likelihood on samples of the posterior."""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.align.objectives.batch import Batch

__all__ = ["sft_posterior"]

RARE = -40.0
"""Nats below which a draw's chance to be included is n q, to all digits of a float64."""


def sft_posterior(batch: Batch) -> Tensor:
    """Cross-entropy of p* estimated on weighted draws: E_q[P/(Zq) (-log π)].

    With hard evidence and q = p0 the weights are 0 or 1/Z: supervised fine-tuning on the accepted
    draws. Same minimum as forward KL, without the control variate that removes its noise.

    A distinct outcome counts once, over its probability 1 - (1 - q)^n of being among the n draws
    of its group, instead of once per copy over n q. Both are unbiased and agree where nothing
    repeats; where much repeats, as in an enumerable model, the noise of the counts is gone.

    Reference: Korbak, Perez and Buckley (2022), section 5; Peters and Schaal (2007) for RWR;
    Horvitz and Thompson (1952) for the inclusion weights.
    """
    _, group, size = torch.unique(batch.groups, return_inverse=True, return_counts=True)
    n = size[group].to(batch.log_q.dtype)
    absent = n * torch.log1p(-batch.log_q.exp().clamp(max=1 - 1e-12))
    # n q where 1 - (1 - q)^n would round, or q underflow: texts of a few hundred tokens.
    rare = batch.log_q < RARE
    log_included = torch.where(rare, n.log() + batch.log_q, (-absent.expm1()).log())
    weight = (batch.log_target - batch.log_z - log_included).exp() / batch.copies
    return -(weight * batch.log_pi).sum() / len(size)
