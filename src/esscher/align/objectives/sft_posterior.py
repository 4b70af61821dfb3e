"""Maximum likelihood on samples of the posterior."""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.align.objectives.batch import Batch

__all__ = ["sft_posterior"]


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
    included = -torch.expm1(n * torch.log1p(-batch.log_q.exp().clamp(max=1 - 1e-12)))
    weight = (batch.log_target - batch.log_z).exp() / (included * batch.copies)
    return -(weight * batch.log_pi).sum() / len(size)
