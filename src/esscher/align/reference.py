"""The target seen from outside the model: exact posterior draws where they can be had."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from esscher.align.propose import weigh
from esscher.core.estimate import Estimate
from esscher.core.importance import log_z
from esscher.core.law import join, take
from esscher.core.sample import unreachable
from esscher.core.target import Target
from esscher.errors import TargetUnreachableError
from esscher.kit.lm.language_model import LanguageModel

__all__ = ["ByContext", "Reference", "make_reference", "references_by_context"]

BATCH = 512
"""Prior draws per pass while looking for posterior draws."""
LEAST = 50
"""Fewest draws of a prompt's own target."""


@dataclass(frozen=True)
class Reference:
    """Draws that carry the target's own mass, kept apart from all training.

    Attributes:
        x: M draws of positive target density, in the model's form.
        context: their prompts, or None.
        log_prior: [M] log-probability under the prior itself, nats.
        log_weight: [M] evidence log-weight, nats.
        log_share: [M] log of each draw's share of the target's mass; -log M where draws are exact.
        prior_power: of the prior in the target.
        log_z: the target's log normaliser.
        log_ruled_out: log of what the ruled-out outcomes would add to Z at log-weight 0, nats.
        n_drawn: prior draws it took.
        kind: "exact" (rejection from the prior), "enumerated" (every outcome) or "weighted".
        satisfied: share of prior draws the evidence does not rule out.
    """

    x: Any
    context: list[str] | None
    log_prior: Tensor
    log_weight: Tensor
    log_share: Tensor
    prior_power: float
    log_z: Estimate
    log_ruled_out: float
    n_drawn: int
    kind: str
    satisfied: Estimate

    @property
    def log_target(self) -> Tensor:
        """[M] unnormalised log-density."""
        return self.prior_power * self.log_prior + self.log_weight

    @property
    def exact(self) -> bool:
        """Whether the draws are independent draws from the target."""
        return self.kind == "exact"

    def log_z_floored(self, floor: float) -> Estimate:
        """Log normaliser of the target in which ruled-out draws count as -floor nats."""
        if self.log_ruled_out == -math.inf:
            return self.log_z
        total = float(np.logaddexp(self.log_z.mean, self.log_ruled_out - floor))
        # Both parts come from the same draws; the outer one is negligible in the error.
        se = self.log_z.se * math.exp(self.log_z.mean - total)
        return Estimate(total, se, self.log_z.n, unit="nats")


@dataclass(frozen=True)
class ByContext:
    """References of single prompts, each a target with a normaliser of its own.

    Attributes:
        n: draws wanted of each.
        reached: those of prompts for which the evidence was satisfied at least once.
        unseen: the other prompts.
    """

    n: int
    reached: list[Reference]
    unseen: list[str]


def references_by_context(
    target: Target, n: int, prompts: Sequence[str], *, rng: torch.Generator
) -> ByContext:
    """About n draws in all, shared out among the different prompts, or as many as `LEAST` allows.

    Raises:
        TargetUnreachableError: if no prior draw of any prompt satisfies the evidence.
    """
    distinct = list(dict.fromkeys(prompts))
    most = max(1, n // LEAST)
    if len(distinct) > most:
        order = torch.randperm(len(distinct), generator=rng)[:most]
        distinct = [distinct[i] for i in sorted(order.tolist())]
    each = max(LEAST, n // len(distinct))
    reached, unseen, failure = [], [], None
    for prompt in distinct:
        try:
            reached.append(make_reference(target, each, prompt=prompt, rng=rng))
        except TargetUnreachableError as error:
            unseen.append(prompt)
            failure = error
    if failure is not None and not reached:
        raise failure
    return ByContext(each, reached, unseen)


def make_reference(
    target: Target,
    n: int,
    *,
    prompt: str | None = None,
    max_draws: int | None = None,
    rng: torch.Generator,
) -> Reference:
    """N draws of positive target density from the prior, or all outcomes of an enumerable one.

    Where the evidence is hard (log-weights 0 or -inf) these are exact posterior draws.

    Args:
        target: prior and evidence.
        n: draws wanted.
        prompt: what all texts continue.
        max_draws: most prior draws spent; by default 200 n.
        rng: source of randomness.

    Raises:
        TargetUnreachableError: if none of the prior draws satisfies the evidence.
    """
    if prompt is None and hasattr(target.prior, "enumerate"):
        return _enumerated(target)
    limit = 200 * n if max_draws is None else max_draws
    parts: list[tuple[Any, list[str] | None, Tensor, Tensor]] = []
    weights: list[Tensor] = []
    tilts: list[Tensor] = []
    found = drawn = 0
    prior = cast("LanguageModel", target.prior)
    while found < n and drawn < limit:
        context = None if prompt is None else [prompt] * BATCH
        x, log_q = prior.sample(BATCH, context=context, rng=rng)
        weight = weigh(target, x, context)
        tilts.append((target.prior_power - 1) * log_q)
        weights.append(weight + tilts[-1])
        drawn += len(weight)
        kept = (weight > -torch.inf).nonzero()[:, 0]
        if len(kept):
            chosen = None if context is None else [context[i] for i in kept.tolist()]
            parts.append((take(x, kept), chosen, log_q[kept].double(), weight[kept]))
            found += len(kept)
    if not found:
        raise unreachable(target, x, context, drawn=drawn, draws="prior draws")
    return _assemble(parts, torch.cat(weights), torch.cat(tilts), target.prior_power)


def _assemble(
    parts: list[tuple[Any, list[str] | None, Tensor, Tensor]],
    log_w: Tensor,
    tilt: Tensor,
    prior_power: float,
) -> Reference:
    drawn = len(log_w)
    log_prior = torch.cat([p[2] for p in parts])
    log_weight = torch.cat([p[3] for p in parts])
    contexts = [c for p in parts for c in p[1] or ()]
    alive = log_w[log_w > -torch.inf]
    hard = bool((alive == alive[0]).all())
    count = len(log_weight)
    share = alive.log_softmax(0)
    return Reference(
        join([p[0] for p in parts]),
        contexts or None,
        log_prior,
        log_weight,
        torch.full_like(share, -math.log(count)) if hard else share,
        prior_power,
        log_z(log_w),
        float(tilt[log_w == -torch.inf].logsumexp(0)) - math.log(drawn),
        drawn,
        "exact" if hard else "weighted",
        _proportion(count, drawn),
    )


def _enumerated(target: Target) -> Reference:
    table = target.table()
    x = target.prior.enumerate()  # type: ignore[attr-defined]
    weight = target.log_weight(x)
    log_prior = target.prior.log_prob(x)
    ruled_out = (target.prior_power * log_prior)[weight == -torch.inf]
    kept = (table.log_probs > -torch.inf).nonzero()[:, 0]
    n = len(weight)
    mass = target.prior.log_prob(x).exp()
    satisfied = float(mass[weight > -torch.inf].sum() / mass.sum())
    return Reference(
        x[kept],
        None,
        log_prior[kept],
        weight[kept],
        table.log_probs[kept],
        target.prior_power,
        Estimate(table.log_z, 0.0, n, unit="nats"),
        float(ruled_out.logsumexp(0)),
        n,
        "enumerated",
        Estimate(satisfied, 0.0, n),
    )


def _proportion(k: int, n: int) -> Estimate:
    p = k / n
    return Estimate(p, math.sqrt(max(p * (1 - p), 1 / n) / n), n)
