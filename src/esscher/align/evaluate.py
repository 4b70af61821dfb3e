"""How close a model is to a target, measured on the target's own draws, with error bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import softplus

from esscher.align.diversity import distinct_n, token_lists
from esscher.align.propose import Scored, floored, propose
from esscher.align.reference import Reference, make_reference
from esscher.align.verdict import Evidence, Verdict, judge
from esscher.core.distance import js, kl_model_target, kl_target_model
from esscher.core.divergence import LOG2
from esscher.core.estimate import Estimate, bootstrap, from_samples
from esscher.core.importance import log_z, pareto_k
from esscher.core.target import Target
from esscher.errors import ConfigError, TargetUnreachableError
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.runs.seeds import Streams

__all__ = ["Evaluation", "evaluate", "evaluation_reference"]


@dataclass(frozen=True)
class Evaluation:
    """Distance to the target and what the model writes. Nats unless said otherwise.

    Attributes:
        satisfied: share of the model's draws the evidence does not rule out.
        log_weight: mean evidence log-weight of the model's draws, ruled-out ones at -floor.
        kl_target_model: KL(p*‖π) on draws of the target: the number that sees lost mass.
        kl_model_target: KL(π‖p*) to the target in which ruled-out draws count as -floor.
        kl_model_prior: KL(π‖p0).
        kl_target_prior: KL(p*‖p0), the first number for a model left as it was.
        kl_gained: KL(p*‖p0) - KL(p*‖π), from pairs on the same draws, which share most of their
            noise; log Z cancels.
        tvd: total variation to the exact target, in [0, 1].
        js: Jensen-Shannon divergence to the exact target, in [0, log 2].
        entropy: of the model.
        entropy_target: of the target.
        distinct_2: share of distinct token pairs per 64 draws.
        length: mean tokens per draw.
        ess: effective share of the model's draws as a sample of the target, in [0, 1].
        pareto_k: tail index of the weights P/π; None for fewer than 25 draws that count.
        log_z: normaliser seen from the prior.
        log_z_model: normaliser seen from the model; None if no draw counts.
        floor: log-weight of ruled-out draws in `kl_model_target`, negated.
        reference: where the target's draws come from: exact, enumerated or weighted.
        verdict: the word and its reason.
    """

    satisfied: Estimate
    log_weight: Estimate
    kl_target_model: Estimate
    kl_model_target: Estimate
    kl_model_prior: Estimate
    kl_target_prior: Estimate
    kl_gained: Estimate
    tvd: Estimate
    js: Estimate
    entropy: Estimate
    entropy_target: Estimate
    distinct_2: Estimate
    length: Estimate
    ess: Estimate
    pareto_k: float | None
    log_z: Estimate
    log_z_model: Estimate | None
    floor: float
    reference: str
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; every estimate as {"mean", "se", "n"}."""
        out: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            out[f.name] = value.to_json() if isinstance(value, Estimate) else value
        out["verdict"], out["reason"] = self.verdict
        return out


def evaluate(
    policy: LanguageModel,
    target: Target,
    n: int = 1000,
    *,
    seed: int = 0,
    floor: float = 5.0,
    prompts: Sequence[str] | None = None,
    reference: Reference | None = None,
) -> Evaluation:
    """Measure a model against a target.

    An enumerable model on an enumerable prior is summed exactly (standard errors 0); anything else
    is sampled: n draws of the model and n of the target, never those it was trained on.

    Args:
        policy: any language model here, trained or not.
        target: prior and evidence.
        n: draws of each law, at least 25.
        seed: of all random numbers; training uses other streams of the same seed.
        floor: nats, positive; only `kl_model_target` and `log_weight` depend on it.
        prompts: prompts to draw contexts from.
        reference: draws of the target to use again.

    Raises:
        ConfigError: if n or floor is out of range.
        TargetUnreachableError: if no prior draw satisfies the evidence.
    """
    if n < 25 or not 0 < floor < math.inf:
        raise ConfigError(f"evaluate needs n >= 25 and a positive floor, got n={n}, floor={floor}")
    if reference is None:
        reference = evaluation_reference(target, n, seed=seed, prompts=prompts)
    if reference.kind == "enumerated" and hasattr(policy, "enumerate"):
        return _exact(policy, target, reference, floor)
    rng = Streams(seed).torch("evaluation-model")
    draws = propose(policy, target, n, prompts=prompts, group=1, rng=rng)
    # The prior's own draws are scored already; a second pass would differ in the last digits.
    own = policy is target.prior
    log_pi = reference.log_prior if own else policy.log_prob(reference.x, context=reference.context)
    return _sampled(policy, draws, log_pi, reference, floor)


def evaluation_reference(
    target: Target, n: int, *, seed: int, prompts: Sequence[str] | None = None
) -> Reference:
    """The draws of the target that `evaluate` uses where it is given none; see there."""
    rng = Streams(seed).torch("evaluation-target")
    return make_reference(target, n, prompts=prompts, rng=rng)


def _sampled(
    policy: LanguageModel, draws: Scored, log_pi: Tensor, ref: Reference, floor: float
) -> Evaluation:
    weight = floored(draws.log_weight, floor)
    log_w = draws.log_target - draws.log_q
    try:
        seen = log_z(log_w)
    except TargetUnreachableError:
        seen = None
    tokens = token_lists(draws.x, policy.items(draws.x))
    return _with_verdict(
        satisfied=_share(draws.log_weight > -torch.inf),
        log_weight=from_samples(weight, unit="nats"),
        kl_target_model=_forward(log_pi, ref),
        kl_model_target=kl_model_target(
            draws.log_q, draws.log_target_floored(floor), ref.log_z_floored(floor)
        ),
        kl_model_prior=from_samples(draws.log_q - draws.log_prior, unit="nats"),
        kl_target_prior=_forward(ref.log_prior, ref),
        kl_gained=_gain(log_pi, ref),
        tvd=_tvd(draws, log_pi, ref),
        js=_js(draws, log_pi, ref),
        entropy=from_samples(-draws.log_q, unit="nats"),
        entropy_target=_target_mean(ref.log_z.mean - ref.log_target, ref),
        distinct_2=distinct_n(tokens),
        length=from_samples(torch.tensor([len(t) for t in tokens], dtype=torch.float64)),
        ess=_ess(log_w),
        pareto_k=_tail(log_w),
        log_z=ref.log_z,
        log_z_model=seen,
        floor=floor,
        reference=ref.kind,
    )


def _with_verdict(**numbers: Any) -> Evaluation:
    keys = ("kl_target_model", "kl_target_prior", "tvd", "entropy", "entropy_target", "log_z")
    evidence = Evidence(
        **{k: numbers[k] for k in keys},
        ess=numbers["ess"].mean,
        pareto_k=numbers["pareto_k"],
        log_z_model=numbers["log_z_model"],
    )
    return Evaluation(**numbers, verdict=judge(evidence))


def _forward(log_pi: Tensor, ref: Reference) -> Estimate:
    """KL(p*‖π) on the reference draws."""
    if ref.exact:
        return kl_target_model(ref.log_target, log_pi, ref.log_z)
    return _target_mean(ref.log_target - ref.log_z.mean - log_pi, ref)


def _gain(log_pi: Tensor, ref: Reference) -> Estimate:
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


def _target_mean(values: Tensor, ref: Reference) -> Estimate:
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


def _tvd(draws: Scored, log_pi: Tensor, ref: Reference) -> Estimate:
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


def _js(draws: Scored, log_pi: Tensor, ref: Reference) -> Estimate:
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


def _share(mask: Tensor) -> Estimate:
    n = len(mask)
    p = float(mask.double().mean())
    # At 0 and 1 the plain error would be 0, which no finite sample can know.
    return Estimate(p, math.sqrt(max(p * (1 - p), 1 / n) / n), n)


def _ess(log_w: Tensor) -> Estimate:
    if bool((log_w == -torch.inf).all()):
        return Estimate(0.0, 0.0, len(log_w))
    w = (log_w - log_w.max()).exp()
    rng = Streams(0).torch("effective-sample-size")
    return bootstrap(w, statistic=lambda v: v.mean() ** 2 / (v**2).mean(), rng=rng)


def _tail(log_w: Tensor) -> float | None:
    alive = log_w[log_w > -torch.inf]
    if len(alive) < 25 or float(alive.max() - alive.min()) == 0.0:
        return None
    k = pareto_k(log_w)
    return k if math.isfinite(k) else None


def _exact(policy: LanguageModel, target: Target, ref: Reference, floor: float) -> Evaluation:
    """Every number summed over all outcomes."""
    x = cast("Any", policy).enumerate()
    log_pi = policy.log_prob(x)
    log_prior = target.prior.log_prob(x)
    tempered = target.prior_power * log_prior
    weight = target.log_weight(x)
    pi, n = log_pi.exp(), len(log_pi)

    def mean(values: Tensor, unit: str = "nats") -> Estimate:
        return Estimate(float(torch.where(pi > 0, pi * values, 0.0).sum()), 0.0, n, unit=unit)

    soft = floored(weight, floor)
    log_p = tempered + weight - ref.log_z.mean
    log_w = log_p - log_pi
    tokens = token_lists(x, policy.items(x))
    floored_z = float(torch.logsumexp(tempered + soft, 0))
    square = float((pi * (2 * log_w).exp()).sum())
    mixture = torch.logaddexp(log_pi, log_p) - math.log(2)
    half = torch.where(log_p > -torch.inf, log_p.exp() * (log_p - mixture), 0.0).sum()
    rng = Streams(0).torch("exact-distinct")
    drawn = policy.sample(512, rng=rng).x
    return _with_verdict(
        satisfied=mean((weight > -torch.inf).double(), ""),
        log_weight=mean(soft),
        kl_target_model=_forward(policy.log_prob(ref.x), ref),
        kl_model_target=mean(log_pi - tempered - soft + floored_z),
        kl_model_prior=mean(log_pi - log_prior),
        kl_target_prior=_forward(ref.log_prior, ref),
        kl_gained=_gain(policy.log_prob(ref.x), ref),
        tvd=Estimate(0.5 * float((pi - log_p.exp()).abs().sum()), 0.0, n),
        js=Estimate(0.5 * float(half) + 0.5 * mean(log_pi - mixture).mean, 0.0, n, unit="nats"),
        entropy=mean(-log_pi),
        entropy_target=_target_mean(ref.log_z.mean - ref.log_target, ref),
        distinct_2=distinct_n(token_lists(drawn, policy.items(drawn))),
        length=mean(torch.tensor([len(t) for t in tokens], dtype=torch.float64), ""),
        ess=Estimate(1 / square if square > 0 else 0.0, 0.0, n),
        pareto_k=None,
        log_z=ref.log_z,
        log_z_model=ref.log_z,
        floor=floor,
        reference=ref.kind,
    )
