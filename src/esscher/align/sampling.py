"""Drawing from the target itself, with a fitted model as the proposal."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor

from esscher.align.propose import weigh
from esscher.core.importance import log_z
from esscher.core.quasi import CurveRow, acceptance_curve, quasi_rejection
from esscher.core.target import Target
from esscher.errors import ConfigError
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.runs.seeds import Streams

__all__ = ["PosteriorSample", "sample_posterior"]

PILOT = 2000
"""Proposals from which the bound is chosen; the draws handed out are others."""


class PosteriorSample(NamedTuple):
    """Draws from a quasi-rejection sampler and how good it is.

    Attributes:
        x: n draws, in the model's form.
        quality: bound, acceptance, total variation and KL to the target.
        curve: acceptance against total variation for a range of bounds, from the pilot draws.
        n_proposed: proposals drawn for x.
    """

    x: Any
    quality: CurveRow
    curve: list[CurveRow]
    n_proposed: int


def sample_posterior(
    target: Target,
    proposal: LanguageModel,
    n: int,
    *,
    tvd: float = 0.1,
    log_bound: float | None = None,
    seed: int = 0,
) -> PosteriorSample:
    """N draws from the target by quasi-rejection (Eikema et al. 2022).

    Args:
        target: prior and evidence, moments fitted.
        proposal: law that covers the target; the closer, the more is accepted.
        n: draws wanted.
        tvd: total variation that may remain, in (0, 1); the smallest bound that keeps it is taken.
        log_bound: log of the bound on P/q in nats, instead of choosing one.
        seed: of all random numbers.

    Raises:
        ConfigError: if tvd is out of range.
        TargetUnreachableError: if no proposal satisfies the evidence.
    """
    if not 0 < tvd < 1:
        raise ConfigError(f"tvd must lie in (0, 1), got {tvd}")
    streams = Streams(seed)
    x, log_q = proposal.sample(PILOT, rng=streams.torch("quasi-pilot"))
    log_prior = target.prior_power * target.prior.log_prob(x)
    log_w = log_prior + weigh(target, x, None) - log_q
    curve = acceptance_curve(log_w, _bounds(log_w))
    if log_bound is None:
        good = [row for row in curve if row.tvd.mean <= tvd]
        log_bound = (good[0] if good else curve[-1]).log_bound
    rng = streams.torch("quasi-draws")
    result = quasi_rejection(target, proposal, log_bound, n, rng=rng)
    return PosteriorSample(result.x, result.quality, curve, result.n_proposed)


def _bounds(log_w: Tensor) -> list[float]:
    """Log-bounds from well below log Z up to the largest weight seen."""
    low, high = log_z(log_w).mean - 2.0, float(log_w.max())
    steps = max(2, math.ceil((high - low) / 0.1))
    return [low + (high - low) * i / (steps - 1) for i in range(steps)]
