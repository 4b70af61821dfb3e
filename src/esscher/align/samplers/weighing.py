"""Choosing among proposals by their weight or by their rank."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from esscher.align.samplers.sampler import Drawn, Facts, Task
from esscher.core.best_of_n import best_of_n, best_of_n_kl
from esscher.core.estimate import from_samples
from esscher.core.importance import log_z, pareto_k
from esscher.core.law import join, take
from esscher.core.sample import importance_resample, unreachable, weighed_draws
from esscher.kit.stopping import BestOfN

__all__ = ["draw_best_of_n", "draw_resample", "draw_soft_best_of_n"]

PILOT = 2000
"""Proposals from which the distance of best-of-n to the proposal is estimated."""


def draw_resample(task: Task) -> Drawn:
    """Draws among n · pool proposals by weight P/q, repeats included.

    Reference: Rubin (1988), sampling importance resampling.
    """
    pool = task.n * task.config.pool
    rng = task.streams.torch("sample")
    found = importance_resample(
        task.target, task.proposal, task.n, rng=rng, pool=pool, context=task.context
    )
    tail = found.pareto_k if math.isfinite(found.pareto_k) else None
    share = None if found.log_z.ess is None else found.log_z.ess / pool
    return Drawn(
        found.x, {"log_z": found.log_z, "pareto_k": tail, "ess": share, "n_proposed": pool}
    )


def draw_soft_best_of_n(task: Task) -> Drawn:
    """Each draw is one of its own pool of proposals, chosen by weight P/q; independent draws.

    A pool in which every weight is zero is drawn again, up to 100 times.

    Reference: Verdun et al. (2025), "Soft best-of-n sampling for model alignment".
    """
    target, pool = task.target, task.config.pool
    rng = task.streams.torch("sample")
    parts, weights, missing = [], [], task.n
    for _ in range(100):
        x, log_p, log_q = weighed_draws(
            target, task.proposal, missing * pool, context=task.context, rng=rng
        )
        log_w = (log_p - log_q).cpu()
        weights.append(log_w)
        table = log_w.view(missing, pool)
        alive = (table > -torch.inf).any(1)
        share = table[alive].softmax(1)
        if len(share):
            chosen = torch.multinomial(share, 1, generator=rng)[:, 0]
            parts.append(take(x, alive.nonzero()[:, 0] * pool + chosen))
        missing -= len(share)
        if missing == 0:
            break
    else:
        raise unreachable(target, x, task.context, drawn=sum(map(len, weights)))
    log_w = torch.cat(weights)
    tail = pareto_k(log_w)
    facts: Facts = {
        "log_z": log_z(log_w),
        "pareto_k": tail if math.isfinite(tail) else None,
        "n_proposed": len(log_w),
    }
    return Drawn(join(parts), facts)


def draw_best_of_n(task: Task) -> Drawn:
    """The best of `pool` proposals by evidence, ties at random. Not an approximation of p*.

    Its distance to the proposal is estimated from the ranks, without the bound
    log n - (n-1)/n that is often quoted as its value. With a stopping rule a pool ends once its
    best is worth keeping, and there is no such estimate.

    Reference: Beirami et al. (2024).
    """
    if task.config.stop is not None:
        return _stopped_best_of_n(task, task.config.stop)
    rng = task.streams.torch("sample")
    pool = task.config.pool
    found = best_of_n(task.target, task.proposal, task.n, pool=pool, rng=rng, context=task.context)
    pilot = task.proposal.sample(
        PILOT, context=task.context, rng=task.streams.torch("best-of-n-pilot")
    ).x
    score = task.target.log_weight(pilot, task.context)
    kl = best_of_n_kl(score, pool, rng=task.streams.torch("best-of-n-bootstrap"))
    return Drawn(found.x, {"kl_proposal": kl, "n_proposed": found.n_proposed})


def _stopped_best_of_n(task: Task, stop: BestOfN) -> Drawn:
    """Every pool grows by one proposal a round until the rule ends it, or it is full.

    All pools have one context, so that the rule learns from all of them together.
    """
    rng = task.streams.torch("sample")
    pool = min(task.config.pool, stop.most or task.config.pool)
    seen = torch.full((task.n, pool), -torch.inf, dtype=torch.float64)
    place = torch.zeros(seen.shape, dtype=torch.int64)
    used = torch.zeros(task.n, dtype=torch.int64)
    going, parts, drawn = torch.arange(task.n), [], 0
    for column in range(pool):
        x = task.proposal.sample(len(going), context=task.context, rng=rng).x
        seen[going, column] = task.target.log_weight(x, task.context).cpu()
        place[going, column] = drawn + torch.arange(len(going))
        parts.append(x)
        drawn += len(going)
        used[going] += 1
        known = seen[torch.arange(pool) < used[:, None]]
        going = going[seen[going].amax(1) < stop.fair_cap(known.numpy())]
        if not len(going):
            break
    chosen = _best_places(seen, used, rng)
    best = seen.gather(1, chosen)[:, 0]
    counts = used.double()
    facts: Facts = {
        "n_proposed": drawn,
        "draws": from_samples(counts),
        "payoff": from_samples(best - stop.cost * counts),
        "full_pools": int((used == pool).sum()),
    }
    return Drawn(take(join(parts), place.gather(1, chosen)[:, 0]), facts)


def _best_places(seen: Tensor, used: Tensor, rng: torch.Generator) -> Tensor:
    """[n, 1] column of the largest among the columns used, ties at random."""
    open_to = torch.arange(seen.shape[1]) < used[:, None]
    luck = torch.rand(seen.shape, dtype=torch.float64, generator=rng)
    tied = open_to & (seen == seen.amax(1, keepdim=True))
    return torch.where(tied, luck, -1.0).argmax(1, keepdim=True)
