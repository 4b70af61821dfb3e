"""Trajectory balance: path consistency with a learnt normaliser."""

from __future__ import annotations

from torch import Tensor

from esscher.align.objectives.batch import Batch

__all__ = ["trajectory_balance"]


def trajectory_balance(batch: Batch) -> Tensor:
    """½ E_q[(log Z_θ + log π(x) - log P(x))²], least where π = p* and Z_θ = Z.

    The normaliser is a parameter beside the policy's, with a learning rate of its own. Any q that
    covers the target will do, and no importance weights are needed.

    Reference: Malkin et al. (2022), equation 14.
    """
    gap = batch.log_z + batch.log_pi - batch.log_target
    return 0.5 * (gap * gap).mean()
