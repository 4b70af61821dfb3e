"""Reward maximisation without a KL term. It does not approximate the target."""

from __future__ import annotations

from torch import Tensor

from esscher.align.objectives.batch import Batch
from esscher.core.divergence import DIVERGENCES
from esscher.core.gradient import advantages

__all__ = ["rl"]


def rl(batch: Batch) -> Tensor:
    """REINFORCE with a leave-one-out baseline on the evidence's log-weight alone.

    The optimum is a point mass on the best-rewarded sequence: the collapse that the KL term
    prevents. Kept to show exactly that.

    Reference: Korbak, Perez and Buckley (2022), section 3; Kool, van Hoof and Welling (2019).
    """
    # A target that moves with the model cancels the entropy term of the reverse KL.
    A = advantages(
        DIVERGENCES["reverse_kl"],
        log_pi=batch.log_pi,
        log_q=batch.log_q,
        log_target=batch.log_pi.detach() + batch.log_weight,
        groups=batch.groups,
    )
    return -(A * batch.log_pi).mean()
