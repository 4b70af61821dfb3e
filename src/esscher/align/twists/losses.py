"""Four losses whose minimum is the twist ψ(x_≤t) = E_p0[φ(x) | x_≤t].

Each is a pure function of `TwistBatch`; all of them see the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["TWIST_LOSSES", "TwistBatch", "TwistLoss", "ctl", "fudge", "path_consistency", "sixo"]


class TwistBatch(NamedTuple):
    """B draws and what a twist says of their prefixes; nats, [B, T] by prefix length 1 … T.

    Attributes:
        log_psi: [B, T] log ψ(x_≤t) by the twist, differentiable; where t is beyond the draw's
            length, its log φ.
        inside: [B, T] bool, True up to the draw's length.
        log_next: [B, T] log Σ_v p0(v | x_≤t) ψ(x_≤t, v), no gradient; log φ from the draw's end on.
        log_phi: [B] log φ of the draws, -inf where the evidence rules one out.
        log_w0: [B] log p0/q of the draws, 0 where the prior drew them.
        log_z: [] log E_p0[φ].
    """

    log_psi: Tensor
    inside: Tensor
    log_next: Tensor
    log_phi: Tensor
    log_w0: Tensor
    log_z: Tensor


TwistLoss = Callable[[TwistBatch], Tensor]


def ctl(batch: TwistBatch) -> Tensor:
    """Σ_t KL(p*(x_≤t) ‖ π_t), where π_t ∝ p0(x_≤t) ψ(x_≤t): contrastive twist learning.

    The gradient is the mean of -∇ log ψ under p* less that under π_t, both by self-normalised
    weights of the same draws; a draw that has ended counts with its φ in π_t.

    Reference: Zhao et al. (2024), section 4.1.
    """
    positive = (batch.log_w0 + batch.log_phi).softmax(0)[:, None]
    negative = (batch.log_w0[:, None] + batch.log_psi.detach()).softmax(0)
    return -((positive - negative) * batch.log_psi)[batch.inside].sum() / batch.inside.shape[1]


def fudge(batch: TwistBatch) -> Tensor:
    """Regression of φ on every prefix with the loss ψ - φ log ψ, proper for every φ ≥ 0.

    Yang and Klein train a classifier of φ in {0, 1} by cross-entropy, which has the same minimum.

    Reference: Yang and Klein (2021), section 3.
    """
    weight = batch.log_w0.softmax(0)[:, None]
    relative = batch.log_psi - batch.log_z
    phi = (batch.log_phi - batch.log_z).exp()[:, None]
    return (weight * (relative.exp() - phi * relative))[batch.inside].sum()


def sixo(batch: TwistBatch) -> Tensor:
    """Noise-contrastive: prefixes of p* against prefixes of p0, with log ψ/Z as the log-odds.

    Reference: Lawson et al. (2022), section 3.2; Zhao et al. (2024), appendix C.
    """
    base = batch.log_w0.softmax(0)[:, None]
    posterior = (batch.log_w0 + batch.log_phi).softmax(0)[:, None]
    odds = batch.log_psi - batch.log_z
    soft = torch.nn.functional.softplus
    return (posterior * soft(-odds) + base * soft(odds))[batch.inside].sum()


def path_consistency(batch: TwistBatch) -> Tensor:
    """Mean squared gap of log ψ(x_≤t) to log Σ_v p0(v | x_≤t) ψ(x_≤t, v), soft Bellman consistency.

    At the end of a draw it is the gap to log φ, so that a ruled-out draw needs a floor.

    Reference: Zhao et al. (2024), appendix C; Nachum et al. (2017).
    """
    weight = batch.log_w0.softmax(0)[:, None]
    gap = batch.log_psi - batch.log_next
    return 0.5 * (weight * gap * gap)[batch.inside].sum()


TWIST_LOSSES: Mapping[str, TwistLoss] = MappingProxyType(
    {"ctl": ctl, "fudge": fudge, "sixo": sixo, "path_consistency": path_consistency}
)
"""Every way to learn a twist, by name."""
