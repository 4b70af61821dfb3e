"""Losses of preference pairs: pure functions of log-probabilities, and what each one's optimum is.

Everything is in terms of u = log π(x) - log p0(x). With the reward in nats of log-odds, so that
P(x ≻ y) = σ(r(x) - r(y)) (Bradley and Terry 1952), β is the temperature of the target
p0(x) exp(r(x)/β) / Z.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import softplus

from esscher.core.divergence import get_divergence

__all__ = [
    "PREFERENCE_LOSSES",
    "PairBatch",
    "PreferenceLoss",
    "cdpo",
    "cross_entropy",
    "dpo",
    "f_dpo",
    "f_margin",
    "ipo",
    "margin",
]


class PairBatch(NamedTuple):
    """B comparisons of a first and a second text, all [B] float64, log-probabilities in nats.

    Attributes:
        log_pi_chosen: of the first text under the model, differentiable.
        log_pi_rejected: of the second text under the model, differentiable.
        log_p0_chosen: of the first text under the prior.
        log_p0_rejected: of the second text under the prior.
        label: probability that the first is preferred; 1 where one judge was asked once.
    """

    log_pi_chosen: Tensor
    log_pi_rejected: Tensor
    log_p0_chosen: Tensor
    log_p0_rejected: Tensor
    label: Tensor


def margin(batch: PairBatch, *, beta: float) -> Tensor:
    """[B] implicit reward of the first text beyond that of the second, β (u - u')."""
    chosen = batch.log_pi_chosen - batch.log_p0_chosen
    return beta * (chosen - (batch.log_pi_rejected - batch.log_p0_rejected))


def f_margin(batch: PairBatch, *, beta: float, divergence: str) -> Tensor:
    """[B] the same under another divergence, β (f'(π/p0) - f'(π'/p0'))."""
    slope = get_divergence(divergence).slope
    chosen = slope(batch.log_pi_chosen - batch.log_p0_chosen)
    return beta * (chosen - slope(batch.log_pi_rejected - batch.log_p0_rejected))


def cross_entropy(log_odds: Tensor, label: Tensor) -> Tensor:
    """[B] -label log σ(log_odds) - (1 - label) log σ(-log_odds), nats."""
    return softplus(log_odds) - label * log_odds


def dpo(batch: PairBatch, *, beta: float) -> Tensor:
    """[B] cross-entropy of the labels under P(x ≻ y) = σ(β (u - u')).

    Reference: Rafailov, Sharma, Mitchell, Ermon, Manning, Finn (2023), equation 7.
    """
    return cross_entropy(margin(batch, beta=beta), batch.label)


def cdpo(batch: PairBatch, *, beta: float, smoothing: float) -> Tensor:
    """[B] DPO on labels that are believed to be wrong with probability `smoothing`, in [0, ½].

    At ½ the labels say nothing and the prior is optimal; at 0 it is DPO.

    Reference: Mitchell (2023), A note on DPO with noisy preferences.
    """
    label = batch.label * (1 - smoothing) + (1 - batch.label) * smoothing
    return cross_entropy(margin(batch, beta=beta), label)


def f_dpo(batch: PairBatch, *, beta: float, divergence: str) -> Tensor:
    """[B] cross-entropy under the implicit reward β f'(π/p0) of an f-divergence to the prior.

    f and its scale are those of `esscher.core.divergence`, so js has half the slope of the
    reference, and alpha:a is its α = 1 - a.

    Reference: Wang, Jiang, Yang, Liu, Chen (2023), table 1 and theorem 1.
    """
    return cross_entropy(f_margin(batch, beta=beta, divergence=divergence), batch.label)


def ipo(batch: PairBatch, *, beta: float) -> Tensor:
    """[B] expected (h - 1/(2β))² with h = u - u' of the preferred text; β is the paper's τ.

    A margin beyond 1/(2β) is pulled back, so separable pairs do not drive π to infinity.

    Reference: Azar, Guo, Piot, Munos, Rowland, Valko, Calandriello (2023), equation 17.
    """
    h, goal = margin(batch, beta=1.0), 1 / (2 * beta)
    return batch.label * (h - goal) ** 2 + (1 - batch.label) * (h + goal) ** 2


@dataclass(frozen=True)
class PreferenceLoss:
    """A loss and what it is good for.

    Attributes:
        name: key in `PREFERENCE_LOSSES`.
        loss: (batch, settings) -> losses [B].
        margin: (batch, settings) -> implicit reward differences [B], positive where the model
            agrees with the label 1.
        settings: names of the settings both take, beside the batch.
        minimises: what is zero exactly at the target p0·exp(r/β)/Z; None where it is not optimal.
        note: the optimum in words, for infinitely many Bradley-Terry pairs.
        probabilistic: whether margins are log-odds of the labels, so that they can be calibrated.
    """

    name: str
    loss: Callable[..., Tensor]
    margin: Callable[..., Tensor]
    settings: tuple[str, ...]
    minimises: str | None
    note: str
    probabilistic: bool = True


PREFERENCE_LOSSES: Mapping[str, PreferenceLoss] = MappingProxyType(
    {
        p.name: p
        for p in (
            PreferenceLoss(
                "dpo",
                dpo,
                margin,
                ("beta",),
                "KL(P(x≻y) ‖ σ(β(u-u')))",
                "the target p0·exp(r/β)/Z, whichever pairs were compared, if they cover all texts",
            ),
            PreferenceLoss(
                "cdpo",
                cdpo,
                lambda batch, *, beta, smoothing: margin(batch, beta=beta),
                ("beta", "smoothing"),
                None,
                "with smoothing 0 the target p0·exp(r/β)/Z; otherwise a law closer to the prior, "
                "which depends on the pairs compared",
            ),
            PreferenceLoss(
                "f_dpo",
                f_dpo,
                f_margin,
                ("beta", "divergence"),
                None,
                "with reverse_kl the target p0·exp(r/β)/Z; otherwise p0·(f')⁻¹((r-λ)/β), the "
                "optimum of E[r] - β D_f(π, p0), where λ normalises it",
            ),
            PreferenceLoss(
                "ipo",
                ipo,
                lambda batch, *, beta: margin(batch, beta=beta),
                ("beta",),
                None,
                "p0·exp(P(x≻μ)/β)/Z, another target: the reward is the share of wins against μ, "
                "the law that drew both texts of each pair independently",
                probabilistic=False,
            ),
        )
    }
)
