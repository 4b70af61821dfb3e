"""Drawing from a target without training, or with a trained policy as the proposal."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from esscher.align.samplers.chains import (
    draw_block_mh,
    draw_independence_mh,
    draw_parallel_tempering,
    draw_suffix_mh,
)
from esscher.align.samplers.particles import draw_awrs, draw_smc, draw_twisted_smc
from esscher.align.samplers.rejecting import draw_quasi_rejection, draw_rejection
from esscher.align.samplers.sampler import Drawn, Sampler, SamplerConfig, Task
from esscher.align.samplers.weighing import draw_best_of_n, draw_resample, draw_soft_best_of_n
from esscher.core.law import Law
from esscher.core.sample import check_counts
from esscher.core.target import Target
from esscher.errors import ConfigError
from esscher.kit.runs.seeds import Streams

__all__ = ["SAMPLERS", "Drawn", "Sampler", "SamplerConfig", "sample"]

SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        s.name: s
        for s in (
            Sampler("rejection", draw_rejection, "p*, exactly, given a bound on P/q"),
            Sampler("quasi_rejection", draw_quasi_rejection, "min(P, Bq)/Z_B, p* as B grows"),
            Sampler("resample", draw_resample, "p* as the pool grows"),
            Sampler("soft_best_of_n", draw_soft_best_of_n, "p* as the pool grows"),
            Sampler("best_of_n", draw_best_of_n, None),
            Sampler("independence_mh", draw_independence_mh, "p* as steps grow"),
            Sampler("suffix_mh", draw_suffix_mh, "p* as steps grow", needs_tokens=True),
            Sampler("block_mh", draw_block_mh, "p* as steps grow", needs_tokens=True),
            Sampler("parallel_tempering", draw_parallel_tempering, "p* as steps grow"),
            Sampler("smc", draw_smc, "p* as particles grow", needs_tokens=True),
            Sampler("awrs", draw_awrs, "p* as particles grow", needs_tokens=True),
            Sampler("twisted_smc", draw_twisted_smc, "p* as particles grow", needs_tokens=True),
        )
    }
)
"""Every way to draw, by name."""


def sample(
    target: Target,
    method: str = "quasi_rejection",
    *,
    proposal: Law | None = None,
    n: int = 100,
    seed: int = 0,
    config: SamplerConfig | None = None,
    context: str | None = None,
    twist: Any = None,
) -> Drawn:
    """N draws from the target, as near as the method comes.

    Args:
        target: prior and evidence; moments fitted.
        method: key of `SAMPLERS`, which says what its draws follow.
        proposal: the law to propose from, such as a policy of `fit`; the prior by default.
        n: draws wanted, at least 1.
        seed: of every random number.
        config: settings of the method; its defaults where None.
        context: one prompt for all draws.
        twist: for twisted_smc, a twist learnt before.

    Raises:
        ConfigError: if the method is unknown or cannot work with this prior or proposal.
        TargetUnreachableError: if no proposal satisfies the evidence.
    """
    if method not in SAMPLERS:
        near = difflib.get_close_matches(method, SAMPLERS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown sampler {method!r}{hint} Known: {', '.join(SAMPLERS)}")
    if twist is not None and method != "twisted_smc":
        raise ConfigError(f"{method} takes no twist; use method='twisted_smc'")
    check_counts(context, n=n)
    law = target.prior if proposal is None else proposal
    settings = SamplerConfig() if config is None else config
    return SAMPLERS[method].draw(Task(target, law, n, settings, Streams(seed), context, twist))
