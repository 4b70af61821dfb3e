"""Numbers of a model against the target's own draws, each with its error."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from esscher.align.propose import Scored
from esscher.align.reference import Reference
from esscher.core.distance import js, kl_target_model
from esscher.core.divergence import LOG2
from esscher.core.estimate import Estimate, bootstrap, from_samples
from esscher.core.importance import pareto_k
from esscher.kit.runs.seeds import Streams

__all__ = [
    "chi2_model_target",
    "chi2_target_model",
    "effective_share",
    "gain",
    "jensen_shannon",
    "kl_from_target",
    "perplexity",
    "share_of",
    "tail_index",
    "target_mean",
    "total_variation",
]


def kl_from_target(log_pi: Tensor, ref: Reference) -> Estimate:
    """KL(p*‖π) on the reference draws."""
    if ref.exact:
        return kl_target_model(ref.log_target, log_pi, ref.log_z)
    return target_mean(ref.log_target - ref.log_z.mean - log_pi, ref)


def gain(log_pi: Tensor, ref: Reference) -> Estimate:
    """E_p*[log π - log p0]; the self-normalised form where the draws are weighted."""
    values = log_pi - ref.log_prior
    if ref.exact:
        return from_samples(values, unit="nats")
    share = ref.log_share.exp()
    mean = float((share * values).sum())
    if ref.kind == "enumerated":
        return Estimate(mean, 0.0, len(values), unit="nats")
    se = math.inf if math.isinf(mean) else float((share * (values - mean)).square().sum()) ** 0.5
    return Estimate(mean, se, len(values), ess=1 / float((share**2).sum()), unit="nats")


def target_mean(values: Tensor, ref: Reference) -> Estimate:
    """E_p*[values]; the self-normalised form where the draws are weighted."""
    if ref.exact:
        plain = from_samples(values, unit="nats")
        return Estimate(plain.mean, math.hypot(plain.se, ref.log_z.se), plain.n, unit="nats")
    share = ref.log_share.exp()
    mean = float((share * values).sum())
    if ref.kind == "enumerated":
        return Estimate(mean, 0.0, len(values), unit="nats")
    # The values carry -log Z, whose error is that of the same weights: one influence function.
    spread = share * (values - mean - 1) + 1 / ref.n_drawn
    missing = (ref.n_drawn - len(values)) / ref.n_drawn**2
    se = math.sqrt(float((spread**2).sum()) + missing)
    return Estimate(mean, se, len(values), ess=1 / float((share**2).sum()), unit="nats")


def total_variation(draws: Scored, log_pi: Tensor, ref: Reference) -> Estimate:
    """Total variation as 1 - Σ min(p*, π), averaged over draws of both laws where both are exact.

    Every term lies in [0, 1], so no weight can blow up.
    """
    own, pull = _missed(draws.log_target - ref.log_z.mean - draws.log_q)
    if not ref.exact:
        return Estimate(own.mean, math.hypot(own.se, pull * ref.log_z.se), own.n)
    back, pull_back = _missed(log_pi - ref.log_target + ref.log_z.mean)
    # The normaliser enters the two ratios with opposite signs.
    se = math.hypot(own.se, back.se, (pull - pull_back) * ref.log_z.se) / 2
    return Estimate((own.mean + back.mean) / 2, se, own.n + back.n)


def _missed(log_ratio: Tensor) -> tuple[Estimate, float]:
    """Mean of 1 - min(1, ratio), and minus its slope in the log-ratio."""
    return (
        from_samples(1 - log_ratio.exp().clamp(max=1)),
        float(torch.where(log_ratio < 0, log_ratio.exp(), 0.0).mean()),
    )


def jensen_shannon(draws: Scored, log_pi: Tensor, ref: Reference) -> Estimate:
    """Half of each law's part, on draws of its own: a model's draws cannot see what it lost."""
    if ref.exact:
        return js((draws.log_q, draws.log_target), (log_pi, ref.log_target), ref.log_z)
    u = draws.log_q - draws.log_target + ref.log_z.mean
    v = log_pi - ref.log_target + ref.log_z.mean
    share = ref.log_share.exp()
    own = from_samples(0.5 * (LOG2 - softplus(-u)))
    values = 0.5 * (LOG2 - softplus(v))
    back = float((share * values).sum())
    se = 0.0
    if ref.kind == "weighted":
        pull = 0.5 * float(torch.sigmoid(-u).mean() - (share * torch.sigmoid(v)).sum())
        spread = float((share * (values - back)).square().sum()) ** 0.5
        se = math.hypot(spread, pull * ref.log_z.se)
    n = own.n + len(values)
    return Estimate(own.mean + back, math.hypot(own.se, se), n, unit="nats")


def perplexity(nats: Tensor, lengths: Tensor) -> Estimate:
    """exp(Σ nats / Σ tokens) of draws [B], with the error of that ratio."""
    n = len(nats)
    ratio = float(nats.sum() / lengths.sum())
    spread = float(((nats - ratio * lengths) ** 2).sum()) ** 0.5 / float(lengths.sum())
    value = math.exp(ratio)
    return Estimate(value, value * spread * math.sqrt(n / max(1, n - 1)), n)


def share_of(mask: Tensor) -> Estimate:
    """Share of true entries of [B]."""
    n = len(mask)
    p = float(mask.double().mean())
    # At 0 and 1 the plain error would be 0, which no finite sample can know.
    return Estimate(p, math.sqrt(max(p * (1 - p), 1 / n) / n), n)


def effective_share(log_w: Tensor) -> Estimate:
    """Effective sample size of weights [B] as a share of B, with a bootstrap error."""
    if bool((log_w == -torch.inf).all()):
        return Estimate(0.0, 0.0, len(log_w))
    w = (log_w - log_w.max()).exp()
    rng = Streams(0).torch("effective-sample-size")
    return bootstrap(w, statistic=lambda v: v.mean() ** 2 / (v**2).mean(), rng=rng)


def chi2_target_model(ess: Estimate) -> Estimate:
    """χ²(p*‖π) = n / ESS - 1, from the effective share; infinite while no draw counts."""
    if ess.mean == 0.0:
        return Estimate(math.inf, math.inf, ess.n)
    return Estimate(max(0.0, 1 / ess.mean - 1), ess.se / ess.mean**2, ess.n)


def chi2_model_target(log_pi: Tensor, log_target: Tensor, log_z: Estimate) -> Estimate:
    """χ²(π‖p*) = E_π[π/p*] - 1 on draws of the model [B], log_target unnormalised."""
    ratio = from_samples((log_pi - log_target + log_z.mean).exp())
    return Estimate(ratio.mean - 1, math.hypot(ratio.se, ratio.mean * log_z.se), ratio.n)


def tail_index(log_w: Tensor) -> float | None:
    """Pareto k of weights [B]; None for fewer than 25 positive ones, or equal ones."""
    alive = log_w[log_w > -torch.inf]
    if len(alive) < 25 or float(alive.max() - alive.min()) == 0.0:
        return None
    k = pareto_k(log_w)
    return k if math.isfinite(k) else None
