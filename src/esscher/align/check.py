"""What can be known of a target before any training: reachable, how far, how hard to draw from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from esscher.align.propose import Scored, propose
from esscher.core.estimate import Estimate, clopper_pearson
from esscher.core.importance import effective_sample_size, log_z, normalised_weights, pareto_k
from esscher.core.sample import unreachable
from esscher.core.target import Target
from esscher.errors import ConfigError
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.runs.seeds import Streams

__all__ = ["Check", "check_target"]

FEW = 0.05
"""Effective share of the prior's draws below which weights say little."""
COMMON = 0.05
"""Share of satisfied draws from which rejection is affordable."""
HEAVY = 0.7
"""Pareto k above which the mean of the weights is not to be trusted."""


@dataclass(frozen=True)
class Check:
    """What the prior's draws show of a target.

    Attributes:
        log_z: log normaliser, nats.
        satisfied: share of draws no evidence rules out, with its exact 95 % interval.
        interval: that interval.
        ess: effective sample size of the weights, as a share of the draws.
        pareto_k: tail index of the weights; None where they are bounded or too few.
        kl_target_prior: KL(p*‖p0), nats: how much the evidence says.
        terms: per evidence the share it rules out and its mean log-weight elsewhere, nats.
        moments: per feature the wanted and reached mean and λ, nats per unit.
        unseen_prompts: prompts of which no draw satisfied the evidence; None without prompts.
        advice: what to do about it.
    """

    log_z: Estimate
    satisfied: Estimate
    interval: tuple[float, float]
    ess: float
    pareto_k: float | None
    kl_target_prior: Estimate
    terms: dict[str, dict[str, float | None]]
    moments: dict[str, dict[str, float]]
    unseen_prompts: list[str] | None
    advice: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        plain = {k: getattr(self, k) for k in self.__dataclass_fields__}
        return {k: v.to_json() if isinstance(v, Estimate) else v for k, v in plain.items()}


def check_target(
    target: Target, n: int = 2000, *, seed: int = 0, prompts: Sequence[str] | None = None
) -> Check:
    """Look at a target through n draws of its prior.

    Args:
        target: prior and evidence, moments fitted.
        n: draws, at least 25.
        seed: of all random numbers.
        prompts: prompts to draw contexts from, each about equally often.

    Raises:
        ConfigError: if n is below 25.
        TargetUnreachableError: if no draw satisfies the evidence.
    """
    if n < 25:
        raise ConfigError(f"a check needs at least 25 draws, got {n}")
    law = cast("LanguageModel", target.prior)
    rng = Streams(seed).torch("check")
    draws = propose(law, target, n, prompts=prompts, group=1, rng=rng)
    log_w = draws.log_target - draws.log_q
    n_alive = int((draws.log_weight > -torch.inf).sum())
    total = len(log_w)
    if not n_alive:
        raise unreachable(target, draws.x, draws.context, drawn=total, draws="prior draws")
    share = n_alive / total
    tail = pareto_k(log_w)
    found = Check(
        log_z=log_z(log_w),
        satisfied=Estimate(share, math.sqrt(max(share * (1 - share), 1 / total) / total), total),
        interval=clopper_pearson(n_alive, total),
        ess=effective_sample_size(log_w) / total,
        pareto_k=tail if math.isfinite(tail) else None,
        kl_target_prior=_information(log_w, draws),
        terms={name: _term(w) for name, w in target.terms(draws.x, draws.context).items()},
        moments=_moments(target),
        unseen_prompts=None if prompts is None else _unseen(prompts, draws),
        advice=[],
    )
    found.advice.extend(_advice(found, draws.log_weight))
    return found


def _information(log_w: Tensor, draws: Scored) -> Estimate:
    """KL(p*‖p0) = E_p*[log P/p0] - log Z, self-normalised; its error by the influence function."""
    share = normalised_weights(log_w) / len(log_w)
    gain = torch.where(share > 0, draws.log_target - draws.log_prior, 0.0)
    z = log_z(log_w)
    mean = float((share * gain).sum()) - z.mean
    influence = share * (gain - z.mean - mean - 1) + 1 / len(log_w)
    ess = 1 / float((share**2).sum())
    return Estimate(mean, float(influence.square().sum()) ** 0.5, len(log_w), ess=ess, unit="nats")


def _term(weight: Tensor) -> dict[str, float | None]:
    alive = weight[weight > -torch.inf]
    mean = float(alive.mean()) if len(alive) else None
    return {"ruled_out": 1 - len(alive) / len(weight), "log_weight": mean}


def _moments(target: Target) -> dict[str, dict[str, float]]:
    fit = target.moment_fit
    if fit is None:
        return {}
    wanted = [m for e in target.evidence if hasattr(e, "means") for m in e.means.tolist()]
    rows = zip(fit.names, wanted, fit.achieved.tolist(), fit.coefficients.tolist(), strict=True)
    return {n: {"wanted": w, "reached": r, "coefficient": c} for n, w, r, c in rows}


def _unseen(prompts: Sequence[str], draws: Scored) -> list[str]:
    alive = (draws.log_weight > -torch.inf).tolist()
    seen = {c for c, fine in zip(draws.context or [], alive, strict=True) if fine}
    return [prompt for prompt in dict.fromkeys(prompts) if prompt not in seen]


def _advice(found: Check, weight: Tensor) -> list[str]:
    alive = weight[weight > -torch.inf]
    hard = bool((alive == alive[0]).all())
    z, out = found.satisfied.mean, []
    if hard and z >= COMMON:
        out.append(f"rejection from the prior gives exact draws, {z:.0%} of which are accepted")
    if hard and z < COMMON:
        out.append(
            f"only {z:.2%} of the prior's draws count: train a proposal, or learn a twist "
            "(sample --method twisted_smc)"
        )
    if found.ess < FEW:
        out.append(
            f"the prior's weights are worth {found.ess:.2%} of its draws: train on the "
            "policy's own, temper the evidence (a larger beta) or approach it in steps"
        )
    if found.pareto_k is not None and found.pareto_k > HEAVY:
        out.append(
            f"Pareto k is {found.pareto_k:.2f}: log Z and KL(p*‖p0) above are not to be trusted"
        )
    if found.unseen_prompts:
        out.append(
            f"{len(found.unseen_prompts)} prompts have no draw that satisfies the evidence, such "
            f"as {found.unseen_prompts[0]!r}: draw more, or drop them"
        )
    return out or ["the prior's draws cover the target"]
