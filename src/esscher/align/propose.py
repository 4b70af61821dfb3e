"""Drawing a training batch and scoring it under prior, evidence and model."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from esscher.core.law import Context, Draws, Law, contexts_of, join, take
from esscher.core.target import Target

__all__ = ["HalfAndHalf", "Scored", "contexts_for", "floored", "propose", "recounted", "weigh"]


class Scored(NamedTuple):
    """B draws with everything an objective may ask for, [B] float64, nats.

    Attributes:
        x: the draws, in the model's form.
        context: one prompt per draw, or None.
        groups: [B] int64, index of the prompt.
        log_q: under the law that drew them.
        log_prior: under the prior itself, whatever its power in the target.
        log_weight: of the evidence; -inf where it rules a draw out.
        copies: [B] how often the same draw occurs in its group.
        prior_power: of the prior in the target.
    """

    x: Any
    context: list[str] | None
    groups: Tensor
    log_q: Tensor
    log_prior: Tensor
    log_weight: Tensor
    copies: Tensor
    prior_power: float

    @property
    def log_target(self) -> Tensor:
        """Unnormalised log-density of the exact target."""
        return self.prior_power * self.log_prior + self.log_weight

    def take(self, rows: Tensor) -> Scored:
        """The draws at the given rows."""
        context = None if self.context is None else [self.context[i] for i in rows.tolist()]
        return self._replace(
            x=take(self.x, rows),
            context=context,
            groups=self.groups[rows],
            log_q=self.log_q[rows],
            log_prior=self.log_prior[rows],
            log_weight=self.log_weight[rows],
            copies=self.copies[rows],
        )

    @classmethod
    def join(cls, parts: Sequence[Scored]) -> Scored:
        """All draws one after another; groups stay apart where there are prompts."""
        first = parts[0]
        groups, start = [], 0
        for part in parts:
            groups.append(part.groups + start)
            start += 0 if part.context is None else int(part.groups.max()) + 1
        contexts = [part.context or [] for part in parts]
        return cls(
            x=join([part.x for part in parts]),
            context=None if first.context is None else list(itertools.chain(*contexts)),
            groups=torch.cat(groups),
            log_q=torch.cat([part.log_q for part in parts]),
            log_prior=torch.cat([part.log_prior for part in parts]),
            log_weight=torch.cat([part.log_weight for part in parts]),
            copies=torch.cat([part.copies for part in parts]),
            prior_power=first.prior_power,
        )

    def log_target_floored(self, floor: float) -> Tensor:
        """The same where a draw the evidence rules out counts as -floor nats."""
        return self.prior_power * self.log_prior + floored(self.log_weight, floor)


class HalfAndHalf:
    """The law that draws from either of two with equal probability; P/q is at most twice P/prior.

    Args:
        first: the prior.
        second: another law of the same samples, such as the policy.
    """

    def __init__(self, first: Law, second: Law) -> None:
        self.first = first
        self.second = second

    def sample(self, n: int, *, context: Context = None, rng: torch.Generator) -> Draws:
        """The first half of the draws from one law, the second from the other, shuffled."""
        x, first, second = self.scored_draws(n, context=context, rng=rng)
        return Draws(x, _half_and_half(first, second))

    def scored_draws(
        self, n: int, *, context: Context = None, rng: torch.Generator
    ) -> tuple[Any, Tensor, Tensor]:
        """The same draws, and their log-probability [n] under either law, each pass made once."""
        contexts = contexts_of(context, n)
        order = torch.randperm(n, generator=rng)
        halves = (order[: n // 2], order[n // 2 :])
        laws = (self.first, self.second)
        parts, scores = [], torch.zeros(2, n, dtype=torch.float64)
        for i, rows in enumerate(halves):
            if len(rows):
                own = None if contexts is None else [contexts[j] for j in rows.tolist()]
                x, log_prob = laws[i].sample(len(rows), context=own, rng=rng)
                parts.append(x)
                scores[i, rows] = log_prob.double()
                scores[1 - i, rows] = laws[1 - i].log_prob(x, context=own).double()
        return take(join(parts), order.argsort()), scores[0], scores[1]

    def log_prob(self, x: Any, *, context: Context = None) -> Tensor:
        """[B] float64, nats."""
        log_probs = (law.log_prob(x, context=context) for law in (self.first, self.second))
        return _half_and_half(*log_probs)


def _half_and_half(first: Tensor, second: Tensor) -> Tensor:
    return torch.logaddexp(first, second) - math.log(2)


def contexts_for(
    prompts: Sequence[str] | None, n: int, group: int, rng: torch.Generator
) -> tuple[list[str] | None, Tensor]:
    """N prompts in groups of equal ones, and the group of each draw.

    Without prompts all draws form one group.
    """
    if prompts is None:
        return None, torch.zeros(n, dtype=torch.int64)
    n_groups = max(1, n // group)
    chosen = torch.randint(len(prompts), (n_groups,), generator=rng)
    groups = torch.arange(n_groups).repeat_interleave(group)
    return [prompts[int(chosen[g])] for g in groups.tolist()], groups


def propose(
    law: Law,
    target: Target,
    n: int,
    *,
    prompts: Sequence[str] | None = None,
    group: int = 16,
    rng: torch.Generator,
) -> Scored:
    """Draw n samples from a law and score them under prior and evidence.

    Raises:
        NumericsError, DataError: naming the evidence term and sample that broke its promise.
    """
    context, groups = contexts_for(prompts, n, group, rng)
    if isinstance(law, HalfAndHalf) and law.first is target.prior:
        x, log_prior, other = law.scored_draws(len(groups), context=context, rng=rng)
        log_q = _half_and_half(log_prior, other)
    else:
        x, log_q = law.sample(len(groups), context=context, rng=rng)
        own = law is target.prior
        log_prior = log_q if own else target.prior.log_prob(x, context=context)
    weight = weigh(target, x, context)
    return Scored(
        x,
        context,
        groups,
        log_q.double(),
        log_prior.double(),
        weight,
        _copies(x, groups),
        target.prior_power,
    )


def weigh(target: Target, x: Any, context: list[str] | None) -> Tensor:
    """Evidence log-weights [B]; an index tensor is weighed once per distinct outcome."""
    if isinstance(x, Tensor) and x.ndim == 1 and context is None:
        distinct, position = torch.unique(x, return_inverse=True)
        return target.log_weight(distinct)[position]
    return target.log_weight(x, context)


def recounted(draws: Scored) -> Scored:
    """The draws with copies counted over all of them, for batches put together from parts."""
    return draws._replace(copies=_copies(draws.x, draws.groups))


def _copies(x: Any, groups: Tensor) -> Tensor:
    if isinstance(x, Tensor):
        keys = groups * (int(x.max()) + 1) + x
        _, position, counts = torch.unique(keys, return_inverse=True, return_counts=True)
        copies: Tensor = counts[position]
        return copies
    rows = list(zip(groups.tolist(), map(tuple, x.lists()), strict=True))
    count = Counter(rows)
    return torch.tensor([count[row] for row in rows])


def floored(log_weight: Tensor, floor: float) -> Tensor:
    """Log-weights in which a draw the evidence rules out counts as -floor nats."""
    return torch.where(log_weight == -torch.inf, -floor, log_weight)
