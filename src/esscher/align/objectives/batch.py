"""What an objective sees of a batch: log-probabilities, nothing else."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Batch", "TokenBatch"]


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


class TokenBatch(NamedTuple):
    """B draws of the policy, token by token; float64, nats.

    Attributes:
        log_pi: [N] of every token under the model; the only differentiable part.
        log_prior: [N] of the same tokens under the prior.
        row: [N] int64, the draw a token belongs to.
        log_weight: [B] evidence, floored where it would be -inf.
        groups: [B] int64, draws that share a context.
        lengths: [B] tokens per draw.
    """

    log_pi: Tensor
    log_prior: Tensor
    row: Tensor
    log_weight: Tensor
    groups: Tensor
    lengths: Tensor
