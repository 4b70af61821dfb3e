"""Quasi-rejection sampling: accept with probability min(1, P/(Bq)), and know what that costs.

The accepted draws follow p_B ∝ min(P, B q), which tends to the target as B grows while the
acceptance rate falls. Both are estimated from one set of log-weights log P - log q.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esscher.core.estimate import Estimate, from_samples
from esscher.core.importance import effective_sample_size, normalised_weights
from esscher.core.law import Context, Law, Samples
from esscher.core.sample import propose
from esscher.core.target import Target
from esscher.errors import ConfigError

__all__ = ["CurveRow", "QuasiResult", "acceptance_curve", "quasi_rejection"]


@dataclass(frozen=True)
class CurveRow:
    """What a bound costs and gives.

    Attributes:
        log_bound: log B, nats.
        acceptance: probability of accepting a proposal; falls in B.
        tvd: total variation distance of p_B to the target; falls in B.
        kl: KL(p* || p_B), nats; falls in B.
    """

    log_bound: float
    acceptance: Estimate
    tvd: Estimate
    kl: Estimate


@dataclass(frozen=True)
class QuasiResult:
    """Draws from p_B with their distance to the target.

    Attributes:
        x: n accepted samples.
        log_target: [n] unnormalised log-density of the target, nats.
        log_proposal: [n] log-probability under the proposal, nats.
        quality: acceptance, TVD and KL, estimated on all proposals.
        n_proposed: how many proposals were drawn.
    """

    x: Samples
    log_target: Tensor
    log_proposal: Tensor
    quality: CurveRow
    n_proposed: int


def quasi_rejection(
    target: Target,
    proposal: Law,
    log_bound: float,
    n: int,
    *,
    rng: torch.Generator,
    context: Context = None,
    batch: int = 1024,
    max_draws: int = 100_000,
) -> QuasiResult:
    """Draws from p_B ∝ min(P, B q) and estimates of how close p_B is to the target.

    Args:
        target: what to approximate.
        proposal: q; it must cover the target.
        log_bound: log B, any finite number; no valid bound is needed.
        n: accepted samples wanted, at least 1.
        rng: source of randomness.
        context: one context for all draws.
        batch: proposals per call.
        max_draws: proposals without a single acceptance before giving up.

    Raises:
        TargetUnreachableError: if none of max_draws proposals is accepted.
        ConfigError: if a count is not positive, or a list of contexts is given.

    Reference:
        Eikema, Kruszewski, Dance, Elsahar, Dymetman (2022), equations 2-8.
    """
    drawn = propose(
        target, proposal, log_bound, n,
        rng=rng, context=context, batch=batch, max_draws=max_draws, exact=False,
    )  # fmt: skip
    return QuasiResult(
        x=drawn.x,
        log_target=drawn.log_target,
        log_proposal=drawn.log_proposal,
        quality=acceptance_curve(drawn.log_w, [log_bound])[0],
        n_proposed=len(drawn.log_w),
    )


def acceptance_curve(log_w: Tensor, log_bounds: Sequence[float]) -> list[CurveRow]:
    """Acceptance against distance for every bound, all from the same N proposals.

    Args:
        log_w: [N] log P - log q of draws from q, nats.
        log_bounds: values of log B; rows come back in this order.

    Raises:
        ConfigError: if a bound is not finite.
        TargetUnreachableError: if every weight is zero.
    """
    w = normalised_weights(log_w)
    ess = effective_sample_size(log_w)
    return [_row(log_w.detach().to(torch.float64), w, float(b), ess) for b in log_bounds]


def _row(log_w: Tensor, w: Tensor, log_bound: float, ess: float) -> CurveRow:
    if not math.isfinite(log_bound):
        raise ConfigError(f"log_bound must be finite, got {log_bound}")
    over = (log_w - log_bound).clamp(min=0.0)
    acceptance = from_samples((log_w - log_bound).clamp(max=0.0).exp())
    m = normalised_weights(log_w.clamp(max=log_bound))
    n = len(w)
    gap = 0.5 * (w - m).abs()
    sign = 0.5 * (w - m).sign()
    # Both normalisers come from the same draws; their influence is part of the error.
    pull_w, pull_m = -(sign * w).mean(), (sign * m).mean()
    tvd_influence = gap + pull_w * (w - 1) + pull_m * (m - 1)
    excess = torch.where(w > 0, w * over, 0.0)
    log_ratio = _log_mean(log_w.clamp(max=log_bound)) - _log_mean(log_w)
    kl_influence = excess - (excess.mean() + 1) * (w - 1) + (m - 1)
    return CurveRow(
        log_bound=log_bound,
        acceptance=acceptance,
        tvd=Estimate(float(gap.mean()), from_samples(tvd_influence).se, n, ess=ess),
        kl=Estimate(
            # A difference of nearly equal numbers: rounding may leave it just below zero.
            max(float(excess.mean()) + log_ratio, 0.0),
            from_samples(kl_influence).se,
            n,
            ess=ess,
            unit="nats",
        ),
    )


def _log_mean(log_w: Tensor) -> float:
    return float(torch.logsumexp(log_w, 0)) - math.log(len(log_w))
