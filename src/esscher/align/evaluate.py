"""How close a model is to a target, measured on the target's own draws, with error bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor

from esscher.align.diversity import distinct_n, self_bleu, token_lists, unique_share
from esscher.align.gold import gold_values
from esscher.align.measures import (
    chi2_model_target,
    chi2_target_model,
    effective_share,
    gain,
    jensen_shannon,
    kl_from_target,
    perplexity,
    share_of,
    tail_index,
    target_mean,
    total_variation,
)
from esscher.align.propose import Scored, floored, propose
from esscher.align.reference import ByContext, Reference, make_reference, references_by_context
from esscher.align.verdict import Evidence, Verdict, judge
from esscher.core.batch import BatchFunction
from esscher.core.distance import kl_model_target
from esscher.core.estimate import Estimate, from_samples
from esscher.core.importance import log_z
from esscher.core.target import Target
from esscher.errors import ConfigError, TargetUnreachableError
from esscher.kit.lm.identity import check_same_outcomes
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
        chi2_target_model: χ²(p*‖π); it hangs on the largest weights P/π, see pareto_k.
        chi2_model_target: χ²(π‖p*) to the target in which ruled-out draws count as -floor.
        entropy: of the model.
        entropy_target: of the target.
        distinct_2: share of distinct token pairs per 64 draws.
        self_bleu: mean BLEU-4 of 256 draws, each against the others; 1 where all are the same.
        unique: share of different draws.
        prior_perplexity: exp of the prior's mean nats per token on the model's draws.
        length: mean tokens per draw.
        ess: effective share of the model's draws as a sample of the target, in [0, 1].
        pareto_k: tail index of the weights P/π; None for fewer than 25 draws that count.
        log_z: normaliser seen from the prior.
        log_z_model: normaliser seen from the model; None if no draw counts.
        floor: log-weight of ruled-out draws in `kl_model_target`, negated.
        reference: where the target's draws come from: exact, enumerated or weighted.
        verdict: the word and its reason.
        contexts: prompts the numbers are means over; None without prompts.
        unseen_contexts: prompts left out because no draw of the prior satisfied the evidence.
        gold: mean of the gold judgement over the model's draws; None without one.
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
    chi2_target_model: Estimate
    chi2_model_target: Estimate
    entropy: Estimate
    entropy_target: Estimate
    distinct_2: Estimate
    self_bleu: Estimate
    unique: Estimate
    prior_perplexity: Estimate
    length: Estimate
    ess: Estimate
    pareto_k: float | None
    log_z: Estimate
    log_z_model: Estimate | None
    floor: float
    reference: str
    verdict: Verdict
    contexts: int | None = None
    unseen_contexts: int | None = None
    gold: Estimate | None = None

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
    reference: Reference | ByContext | None = None,
    gold: BatchFunction | None = None,
) -> Evaluation:
    """Measure a model against a target.

    An enumerable model on an enumerable prior is summed exactly (standard errors 0); anything else
    is sampled: n draws of the model and n of the target, never those it was trained on.

    With prompts every prompt has a target of its own, with its own log Z, and the numbers are means
    over prompts; see `evaluation_reference` for which. A prompt none of whose draws satisfies the
    evidence is left out and counted.

    Args:
        policy: any language model here, trained or not.
        target: prior and evidence.
        n: draws of each law, at least 25.
        seed: of all random numbers; training uses other streams of the same seed.
        floor: nats, positive; only `kl_model_target` and `log_weight` depend on it.
        prompts: what texts continue.
        reference: draws of the target to use again, as `evaluation_reference` gives them.
        gold: a second judge of the model's draws, of which the target knows nothing: f(items) or
            f(items, contexts) -> numbers.

    Raises:
        ConfigError: if n or floor is out of range, or policy and prior are laws of different texts.
        TargetUnreachableError: if no prior draw satisfies the evidence.
    """
    if n < 25 or not 0 < floor < math.inf:
        raise ConfigError(f"evaluate needs n >= 25 and a positive floor, got n={n}, floor={floor}")
    check_same_outcomes(policy, target.prior)
    if reference is None:
        reference = evaluation_reference(target, n, seed=seed, prompts=prompts)
    if isinstance(reference, ByContext):
        return _mean_over_prompts(policy, target, reference, seed=seed, floor=floor, gold=gold)
    if reference.kind == "enumerated" and hasattr(policy, "enumerate"):
        return _exact(policy, target, reference, floor, gold)
    rng = Streams(seed).torch("evaluation-model")
    return _against(policy, target, n, reference, floor=floor, rng=rng, gold=gold)


def _against(
    policy: LanguageModel,
    target: Target,
    n: int,
    reference: Reference,
    *,
    floor: float,
    rng: torch.Generator,
    gold: BatchFunction | None,
) -> Evaluation:
    """Draws of the model, all in the reference's context, against those of the reference."""
    prompts = None if reference.context is None else reference.context[:1]
    draws = propose(policy, target, n, prompts=prompts, group=1, rng=rng)
    # The prior's own draws are scored already; a second pass would differ in the last digits.
    own = policy is target.prior
    log_pi = reference.log_prior if own else policy.log_prob(reference.x, context=reference.context)
    return _sampled(policy, draws, log_pi, reference, floor=floor, gold=gold)


def evaluation_reference(
    target: Target, n: int, *, seed: int, prompts: Sequence[str] | None = None
) -> Reference | ByContext:
    """The draws of the target that `evaluate` uses where it is given none.

    With prompts they are shared out among the different ones, or among as many of these as can have
    50 each, chosen at random.

    Raises:
        TargetUnreachableError: if no prior draw satisfies the evidence.
    """
    rng = Streams(seed).torch("evaluation-target")
    if prompts is None:
        return make_reference(target, n, rng=rng)
    return references_by_context(target, n, prompts, rng=rng)


def _mean_over_prompts(
    policy: LanguageModel,
    target: Target,
    by_context: ByContext,
    *,
    seed: int,
    floor: float,
    gold: BatchFunction | None,
) -> Evaluation:
    """Evaluations of all prompts that were reached, averaged."""
    rng = Streams(seed).torch("evaluation-model")
    parts = [
        _against(policy, target, by_context.n, reference, floor=floor, rng=rng, gold=gold)
        for reference in by_context.reached
    ]
    numbers: dict[str, Any] = {}
    for f in fields(Evaluation):
        values = [getattr(part, f.name) for part in parts]
        if any(isinstance(value, Estimate) for value in values):
            numbers[f.name] = _mean([value for value in values if value is not None])
    tails = [part.pareto_k for part in parts if part.pareto_k is not None]
    kinds = {part.reference for part in parts}
    missing = {"log_z_model": None} | numbers
    return _with_verdict(
        **missing,
        pareto_k=max(tails) if tails else None,
        floor=floor,
        reference=kinds.pop() if len(kinds) == 1 else "weighted",
        contexts=len(by_context.reached),
        unseen_contexts=len(by_context.unseen),
    )


def _mean(values: Sequence[Estimate]) -> Estimate:
    """Mean of independent estimates."""
    k = len(values)
    se = math.sqrt(sum(v.se**2 for v in values)) / k
    return Estimate(
        sum(v.mean for v in values) / k, se, sum(v.n for v in values), unit=values[0].unit
    )


def _sampled(
    policy: LanguageModel,
    draws: Scored,
    log_pi: Tensor,
    ref: Reference,
    *,
    floor: float,
    gold: BatchFunction | None,
) -> Evaluation:
    weight = floored(draws.log_weight, floor)
    log_w = draws.log_target - draws.log_q
    try:
        seen = log_z(log_w)
    except TargetUnreachableError:
        seen = None
    ess = effective_share(log_w)
    floored_target, floored_z = draws.log_target_floored(floor), ref.log_z_floored(floor)
    items = policy.items(draws.x)
    tokens = token_lists(draws.x, items)
    lengths = torch.tensor([len(t) for t in tokens], dtype=torch.float64)
    return _with_verdict(
        satisfied=share_of(draws.log_weight > -torch.inf),
        log_weight=from_samples(weight, unit="nats"),
        kl_target_model=kl_from_target(log_pi, ref),
        kl_model_target=kl_model_target(draws.log_q, floored_target, floored_z),
        kl_model_prior=from_samples(draws.log_q - draws.log_prior, unit="nats"),
        kl_target_prior=kl_from_target(ref.log_prior, ref),
        kl_gained=gain(log_pi, ref),
        tvd=total_variation(draws, log_pi, ref),
        js=jensen_shannon(draws, log_pi, ref),
        chi2_target_model=chi2_target_model(ess),
        chi2_model_target=chi2_model_target(draws.log_q, floored_target, floored_z),
        entropy=from_samples(-draws.log_q, unit="nats"),
        entropy_target=target_mean(ref.log_z.mean - ref.log_target, ref),
        distinct_2=distinct_n(tokens),
        self_bleu=self_bleu(tokens),
        unique=unique_share(tokens),
        prior_perplexity=perplexity(-draws.log_prior, lengths),
        length=from_samples(lengths),
        ess=ess,
        pareto_k=tail_index(log_w),
        log_z=ref.log_z,
        log_z_model=seen,
        floor=floor,
        reference=ref.kind,
        gold=None if gold is None else from_samples(gold_values(gold, items, draws.context)),
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


def _exact(
    policy: LanguageModel,
    target: Target,
    ref: Reference,
    floor: float,
    gold: BatchFunction | None,
) -> Evaluation:
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
    items = policy.items(x)
    tokens = token_lists(x, items)
    log_soft = torch.log_softmax(tempered + soft, 0)
    square = float((pi * (2 * log_w).exp()).sum())
    mixture = torch.logaddexp(log_pi, log_p) - math.log(2)
    half = torch.where(log_p > -torch.inf, log_p.exp() * (log_p - mixture), 0.0).sum()
    rng = Streams(0).torch("exact-distinct")
    drawn = policy.sample(512, rng=rng).x
    shown = token_lists(drawn, policy.items(drawn))
    length = mean(torch.tensor([len(t) for t in tokens], dtype=torch.float64), "")
    return _with_verdict(
        satisfied=mean((weight > -torch.inf).double(), ""),
        log_weight=mean(soft),
        kl_target_model=kl_from_target(policy.log_prob(ref.x), ref),
        kl_model_target=mean(log_pi - log_soft),
        kl_model_prior=mean(log_pi - log_prior),
        kl_target_prior=kl_from_target(ref.log_prior, ref),
        kl_gained=gain(policy.log_prob(ref.x), ref),
        tvd=Estimate(0.5 * float((pi - log_p.exp()).abs().sum()), 0.0, n),
        chi2_target_model=Estimate(square - 1, 0.0, n),
        chi2_model_target=Estimate(mean((log_pi - log_soft).exp(), "").mean - 1, 0.0, n),
        js=Estimate(0.5 * float(half) + 0.5 * mean(log_pi - mixture).mean, 0.0, n, unit="nats"),
        entropy=mean(-log_pi),
        entropy_target=target_mean(ref.log_z.mean - ref.log_target, ref),
        distinct_2=distinct_n(shown),
        self_bleu=self_bleu(shown),
        unique=unique_share(shown),
        prior_perplexity=Estimate(math.exp(mean(-log_prior).mean / length.mean), 0.0, n),
        length=length,
        ess=Estimate(1 / square if square > 0 else 0.0, 0.0, n),
        pareto_k=None,
        log_z=ref.log_z,
        log_z_model=ref.log_z,
        floor=floor,
        reference=ref.kind,
        gold=None if gold is None else mean(gold_values(gold, items, None), ""),
    )
