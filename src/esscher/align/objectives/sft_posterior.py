"""Maximum likelihood on samples of the posterior."""

from __future__ import annotations

from torch import Tensor

from esscher.align.objectives.batch import Batch

__all__ = ["sft_posterior"]


def sft_posterior(batch: Batch) -> Tensor:
    """Cross-entropy of p* estimated on importance-weighted draws: E_q[P/(Zq) (-log π)].

    With hard evidence and q = p0 the weights are 0 or 1/Z: supervised fine-tuning on the accepted
    draws. Same minimum as forward KL, without the control variate that removes its noise.

    Reference: Korbak, Perez and Buckley (2022), section 5; Peters and Schaal (2007) for RWR.
    """
    weight = (batch.log_target - batch.log_z - batch.log_q).exp()
    return -(weight * batch.log_pi).mean()
