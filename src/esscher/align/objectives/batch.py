"""What an objective sees of a batch: log-probabilities, nothing else."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Batch"]


class Batch(NamedTuple):
    """B draws from a proposal q, all [B] float64 in nats unless said otherwise.

    Attributes:
        log_pi: under the model; the only differentiable part.
        log_q: under the law that drew them.
        log_target: unnormalised log-density of the target, floored where the objective needs it.
        log_weight: the evidence's part of log_target.
        log_z: [] or [B], current estimate of the target's log normaliser.
        groups: [B] int64, draws that share a context.
        copies: [B] int64, how often the same draw occurs in its group.
    """

    log_pi: Tensor
    log_q: Tensor
    log_target: Tensor
    log_weight: Tensor
    log_z: Tensor
    groups: Tensor
    copies: Tensor
