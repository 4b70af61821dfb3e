"""Forward KL by distributional policy gradient, the default objective."""

from __future__ import annotations

from torch import Tensor

from esscher.align.objectives.batch import Batch
from esscher.core.divergence import DIVERGENCES
from esscher.core.gradient import advantages

__all__ = ["forward_kl"]


def forward_kl(batch: Batch) -> Tensor:
    """KL(p*‖π) by importance-weighted score function with the baseline π/q.

    The advantage P/(Zq) - π/q has mean zero at every model and is zero on every draw at the
    optimum, so the gradient noise vanishes there; plain weighted likelihood keeps it.

    Reference: Khalifa, Elsahar and Dymetman (2021), algorithm 1; Korbak et al. (2022, GDC++).
    """
    A = advantages(
        DIVERGENCES["forward_kl"],
        log_pi=batch.log_pi,
        log_q=batch.log_q,
        log_target=batch.log_target,
        log_z=batch.log_z,
        baseline="analytic",
    )
    return -(A * batch.log_pi).mean()
