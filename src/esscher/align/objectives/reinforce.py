"""Reverse KL by REINFORCE, without a baseline."""

from __future__ import annotations

from torch import Tensor

from esscher.align.objectives.batch import Batch
from esscher.core.divergence import DIVERGENCES
from esscher.core.gradient import advantages

__all__ = ["reinforce"]


def reinforce(batch: Batch) -> Tensor:
    """KL(π‖p*) by the plain score function: `reverse_kl` without its baseline, to see its worth.

    Reference: Williams (1992); Korbak, Perez and Buckley (2022), section 4, for the KL in the
    reward.
    """
    A = advantages(
        DIVERGENCES["reverse_kl"],
        log_pi=batch.log_pi,
        log_q=batch.log_q,
        log_target=batch.log_target,
        baseline="none",
    )
    return -(A * batch.log_pi).mean()
