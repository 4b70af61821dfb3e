"""Sampling the target through a proposal: exact rejection and importance resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from esscher.core.batch import shown
from esscher.core.estimate import Estimate
from esscher.core.importance import log_z, pareto_k
from esscher.core.law import Context, Law, Samples, items_of, join, take
from esscher.core.target import Target
from esscher.errors import ConfigError, NumericsError, TargetUnreachableError

__all__ = [
    "Proposed",
    "Resample",
    "SampleResult",
    "check_counts",
    "importance_resample",
    "propose",
    "rejection",
    "unreachable",
    "weighed_draws",
]


@dataclass(frozen=True)
class SampleResult:
    """Draws from accepting or rejecting proposals.

    Attributes:
        x: n accepted samples in the form of the proposal's draws.
        log_target: [n] unnormalised log-density of the target, nats.
        log_proposal: [n] log-probability under the proposal, nats.
        acceptance: probability of accepting a proposal.
        n_proposed: how many proposals were drawn.
    """

    x: Samples
    log_target: Tensor
    log_proposal: Tensor
    acceptance: Estimate
    n_proposed: int


@dataclass(frozen=True)
class Resample:
    """Draws from weighted resampling; they are only approximately from the target.

    Attributes:
        x: n samples, repeats included.
        log_target: [n] unnormalised log-density of the target, nats.
        log_proposal: [n] log-probability under the proposal, nats.
        log_z: log normaliser of the target, with the effective sample size of the pool.
        pareto_k: tail index of the weights; above 0.7 the draws are not to be trusted.
    """

    x: Samples
    log_target: Tensor
    log_proposal: Tensor
    log_z: Estimate
    pareto_k: float


@dataclass(frozen=True)
class Proposed:
    """Everything drawn while filling n accepted samples: those, and all the log-weights."""

    x: Samples
    log_target: Tensor
    log_proposal: Tensor
    log_w: Tensor
    n_accepted: int


def rejection(
    target: Target,
    proposal: Law,
    log_bound: float,
    n: int,
    *,
    rng: torch.Generator,
    context: Context = None,
    batch: int = 1024,
    max_draws: int = 100_000,
) -> SampleResult:
    """Exact draws from the target, accepting with probability P(x) / (q(x) exp(log_bound)).

    Args:
        target: what to sample.
        proposal: q; it must cover the target.
        log_bound: upper bound of log P(x) - log q(x) over all x, nats; 0 is exact for conditions
            on the prior when q is the prior.
        n: accepted samples wanted, at least 1.
        rng: source of randomness.
        context: one context for all draws.
        batch: proposals per call.
        max_draws: proposals without a single acceptance before giving up.

    Returns:
        n draws; exp(log_bound) times the acceptance estimates Z.

    Raises:
        NumericsError: if a proposal exceeds the bound, so that draws would not be exact.
        TargetUnreachableError: if none of max_draws proposals is accepted.
        ConfigError: if a count is not positive, or a list of contexts is given.

    Reference:
        von Neumann (1951).
    """
    drawn = propose(
        target, proposal, log_bound, n,
        rng=rng, context=context, batch=batch, max_draws=max_draws, exact=True,
    )  # fmt: skip
    total = len(drawn.log_w)
    rate = drawn.n_accepted / total
    se = math.sqrt(rate * (1 - rate) / total)
    return SampleResult(
        x=drawn.x,
        log_target=drawn.log_target,
        log_proposal=drawn.log_proposal,
        acceptance=Estimate(rate, se, total),
        n_proposed=total,
    )


def importance_resample(
    target: Target,
    proposal: Law,
    n: int,
    *,
    rng: torch.Generator,
    pool: int | None = None,
    context: Context = None,
) -> Resample:
    """Draw a pool from the proposal and n of it by weight P/q; exact as the pool grows.

    Args:
        target: what to sample.
        proposal: q; it must cover the target.
        n: samples wanted, at least 1.
        rng: source of randomness.
        pool: proposals to choose from, 16 n by default; n = 1 is soft best-of-pool.
        context: one context for all draws.

    Raises:
        TargetUnreachableError: if every weight in the pool is zero.
        ConfigError: if a count is not positive, or a list of contexts is given.

    Reference:
        Rubin (1988), sampling importance resampling.
    """
    size = 16 * n if pool is None else pool
    check_counts(context, n=n, pool=size)
    x, log_p, log_q = weighed_draws(target, proposal, size, context=context, rng=rng)
    log_w = log_p - log_q
    if bool((log_w == -torch.inf).all()):
        raise unreachable(target, x, context, drawn=size)
    rows = torch.multinomial(torch.softmax(log_w.cpu(), 0), n, replacement=True, generator=rng)
    return Resample(
        x=take(x, rows),
        log_target=log_p[rows],
        log_proposal=log_q[rows],
        log_z=log_z(log_w),
        pareto_k=pareto_k(log_w),
    )


def propose(
    target: Target,
    proposal: Law,
    log_bound: float,
    n: int,
    *,
    rng: torch.Generator,
    context: Context,
    batch: int,
    max_draws: int,
    exact: bool,
) -> Proposed:
    """Draw batches until n proposals are accepted with probability min(1, P / (q exp(bound))).

    With exact=True a weight above the bound is an error.
    """
    check_counts(context, n=n, batch=batch, max_draws=max_draws)
    if not math.isfinite(log_bound):
        raise ConfigError(f"log_bound must be finite, got {log_bound}")
    kept: list[tuple[Samples, Tensor, Tensor]] = []
    log_ws: list[Tensor] = []
    accepted = drawn = 0
    while accepted < n:
        size = batch if accepted else min(batch, max_draws - drawn)
        x, log_p, log_q = weighed_draws(target, proposal, size, context=context, rng=rng)
        log_w = log_p - log_q
        if exact:
            _check_bound(log_w, log_bound, items_of(target.prior, x))
        u = torch.rand(size, generator=rng, dtype=torch.float64)
        rows = (u.log() < log_w.cpu() - log_bound).nonzero()[:, 0]
        drawn, accepted = drawn + size, accepted + len(rows)
        log_ws.append(log_w)
        if len(rows):
            kept.append((take(x, rows), log_p[rows], log_q[rows]))
        elif not accepted and drawn >= max_draws:
            raise unreachable(target, x, context, drawn=drawn, log_bound=log_bound)
    xs, log_ps, log_qs = (list(column) for column in zip(*kept, strict=True))
    return Proposed(
        x=take(join(xs), torch.arange(n)),
        log_target=torch.cat(log_ps)[:n],
        log_proposal=torch.cat(log_qs)[:n],
        log_w=torch.cat(log_ws),
        n_accepted=accepted,
    )


def weighed_draws(
    target: Target, law: Law, n: int, *, context: Context, rng: torch.Generator
) -> tuple[Samples, Tensor, Tensor]:
    """N draws x of a law with log P(x) and log q(x), [n] float64 nats.

    Draws of the prior are not scored a second time, which for a network would differ in the last
    digits and take log P - log q above an exact bound.
    """
    x, log_q = law.sample(n, context=context, rng=rng)
    log_q = log_q.to(torch.float64)
    known = log_q if law is target.prior else None
    return x, target.log_density(x, context, prior_log_prob=known), log_q


def unreachable(
    target: Target,
    x: Samples,
    context: Context,
    *,
    drawn: int,
    log_bound: float = 0.0,
    draws: str = "proposals",
) -> TargetUnreachableError:
    """The error for draws that were all ruled out: a bound on Z, the culprits, the remedies.

    Args:
        target: what was to be reached.
        x: some of the draws, to say which evidence ruled them out.
        context: theirs.
        drawn: how many there were.
        log_bound: log of the largest weight one could have had, nats.
        draws: what messages call them.
    """
    bound = -math.expm1(math.log(0.05) / drawn)
    n_last = len(items_of(target.prior, x))
    scale = f" exp({log_bound:g})" if log_bound else ""
    log_z = math.log(bound) + log_bound
    return TargetUnreachableError(
        f"none of {drawn} {draws} was accepted, so Z < {bound:.2g}{scale} (log Z < {log_z:.2f}) "
        f"with 95 % confidence; on the last {n_last}: {target.verdict(x, context)}. "
        "Draw more, soften the worst term (Reward(predicate, beta=...) for a Condition), or draw "
        "from a law closer to the target (a better prior, a model trained on target.tempered(a), "
        "or a sampler that moves there step by step)"
    )


def check_counts(context: Context, **counts: int) -> None:
    """Check that counts are positive and the context is a single one.

    Raises:
        ConfigError: otherwise.
    """
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    if isinstance(context, list | tuple):
        raise ConfigError(
            f"samplers take one context for all draws, got {len(context)}; call once per context"
        )


def _check_bound(log_w: Tensor, log_bound: float, items: Samples) -> None:
    worst = int(log_w.argmax())
    if float(log_w[worst]) > log_bound + 1e-9:
        raise NumericsError(
            f"rejection is not exact: sample {worst} ({shown(items[worst])}) has log P - log q = "
            f"{float(log_w[worst]):.6g}, above log_bound = {log_bound:.6g}; raise it, or use "
            "quasi_rejection, which says how far it is from the target"
        )
