"""Jensen-Shannon divergence by f-divergence policy gradient."""

from __future__ import annotations

from torch import Tensor

from esscher.align.objectives.batch import Batch
from esscher.core.divergence import DIVERGENCES
from esscher.core.gradient import advantages

__all__ = ["js"]


def js(batch: Batch) -> Tensor:
    """JS(π, p*): the pseudo-reward ½ log((1 + p*/π)/2) is bounded below, so hard evidence is fine.

    Reference: Go et al. (2023), theorem 1 and table 1.
    """
    A = advantages(
        DIVERGENCES["js"],
        log_pi=batch.log_pi,
        log_q=batch.log_q,
        log_target=batch.log_target,
        log_z=batch.log_z,
        groups=batch.groups,
    )
    return -(A * batch.log_pi).mean()
