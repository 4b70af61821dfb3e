"""Any f-divergence by its policy gradient: Jensen-Shannon, total variation, χ², Hellinger, α."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from esscher.align.objectives.batch import Batch
from esscher.core.divergence import Divergence
from esscher.core.gradient import advantages

__all__ = ["f_divergence"]


def f_divergence(divergence: Divergence) -> Callable[[Batch], Tensor]:
    """The loss whose gradient is that of D_f(π ‖ p*), with a leave-one-out baseline.

    The pseudo-reward of a draw is -f'(π/p*); where it is bounded, as for js, tv and hellinger, hard
    evidence is fine.

    Reference: Go et al. (2023), theorem 1 and table 1.
    """

    def loss(batch: Batch) -> Tensor:
        """D_f(π ‖ p*) by importance-weighted score function.

        Reference: Go et al. (2023), theorem 1.
        """
        A = advantages(
            divergence,
            log_pi=batch.log_pi,
            log_q=batch.log_q,
            log_target=batch.log_target,
            log_z=batch.log_z,
            groups=batch.groups,
        )
        return -(A * batch.log_pi).mean()

    return loss
