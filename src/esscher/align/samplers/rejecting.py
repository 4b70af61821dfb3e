"""Accepting and rejecting proposals: exact with a bound, and close to exact without one."""

from __future__ import annotations

import math

from torch import Tensor

from esscher.align.samplers.sampler import Drawn, Facts, Task
from esscher.core.importance import log_z
from esscher.core.quasi import acceptance_curve, quasi_rejection
from esscher.core.sample import rejection, weighed_draws

__all__ = ["draw_quasi_rejection", "draw_rejection"]


def draw_rejection(task: Task) -> Drawn:
    """Exact draws, given a bound on log P/q; 0 is one for conditions where q is the prior.

    Reference: von Neumann (1951).
    """
    bound = 0.0 if task.config.log_bound is None else task.config.log_bound
    rng = task.streams.torch("sample")
    found = rejection(task.target, task.proposal, bound, task.n, rng=rng, context=task.context)
    facts: Facts = {
        "acceptance": found.acceptance,
        "n_proposed": found.n_proposed,
        "log_bound": bound,
    }
    return Drawn(found.x, facts)


def draw_quasi_rejection(task: Task) -> Drawn:
    """Draws from p_B ∝ min(P, B q), with the smallest bound B that keeps the wanted distance.

    The bound is chosen from a pilot; acceptance and distance are those of the draws handed out.

    Reference: Eikema et al. (2022).
    """
    config, target, proposal = task.config, task.target, task.proposal
    rng = task.streams.torch("quasi-pilot")
    _, log_p, log_q = weighed_draws(target, proposal, config.pilot, context=task.context, rng=rng)
    log_w = log_p - log_q
    curve = acceptance_curve(log_w, _bounds(log_w))
    log_bound = config.log_bound
    if log_bound is None:
        good = [row for row in curve if row.tvd.mean <= config.tvd]
        log_bound = (good[0] if good else curve[-1]).log_bound
    rng = task.streams.torch("quasi-draws")
    found = quasi_rejection(target, proposal, log_bound, task.n, rng=rng, context=task.context)
    quality = found.quality
    facts: Facts = {
        "acceptance": quality.acceptance,
        "tvd": quality.tvd,
        "kl": quality.kl,
        "log_bound": quality.log_bound,
        "n_proposed": found.n_proposed,
    }
    return Drawn(found.x, facts, tuple(curve))


def _bounds(log_w: Tensor) -> list[float]:
    """Log-bounds from well below log Z up to the largest weight seen."""
    low, high = log_z(log_w).mean - 2.0, float(log_w.max())
    steps = max(2, math.ceil((high - low) / 0.1))
    return [low + (high - low) * i / (steps - 1) for i in range(steps)]
