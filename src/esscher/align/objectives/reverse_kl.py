"""Reverse KL, the objective of KL-regularised RL."""

from __future__ import annotations

from torch import Tensor

from esscher.align.objectives.batch import Batch
from esscher.core.divergence import DIVERGENCES
from esscher.core.gradient import advantages

__all__ = ["reverse_kl"]


def reverse_kl(batch: Batch) -> Tensor:
    """KL(π‖p*) by REINFORCE leave-one-out, the KL to the prior (k1) inside the reward.

    The advantage is G(x) - log π(x)/p0(x) minus its mean over the other draws of the group; it is
    neither divided by its standard deviation nor by length, which would change β.

    Reference: Korbak, Perez and Buckley (2022), section 4; Ahmadian et al. (2024) for RLOO.
    """
    A = advantages(
        DIVERGENCES["reverse_kl"],
        log_pi=batch.log_pi,
        log_q=batch.log_q,
        log_target=batch.log_target,
        groups=batch.groups,
    )
    return -(A * batch.log_pi).mean()
