"""What every sampler takes and gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from esscher.align.twists import TwistConfig
from esscher.core.estimate import Estimate
from esscher.core.law import Context, Law, Samples
from esscher.core.target import Target
from esscher.errors import ConfigError
from esscher.kit.lm.token_model import TokenModel
from esscher.kit.runs.seeds import Streams
from esscher.kit.stopping import BestOfN

__all__ = ["Drawn", "Facts", "Sampler", "SamplerConfig", "Task", "open_model"]

Facts = dict[str, Estimate | float | int | None]
"""Estimates and numbers by name: acceptance, tvd, log_z, ess, rhat, …; None where unknown."""


@dataclass(frozen=True)
class SamplerConfig:
    """Settings of the samplers; each names those it uses."""

    tvd: float = 0.1
    """Total variation to the target that quasi_rejection may keep, in (0, 1)."""
    log_bound: float | None = None
    """log of the bound on P/q, nats, of rejection (0 by default) and quasi_rejection (by default
    chosen from the pilot)."""
    pilot: int = 2000
    """Proposals from which quasi_rejection chooses its bound; more where few of them count."""
    pool: int = 16
    """Proposals per draw of best_of_n, soft_best_of_n and resample."""
    stop: BestOfN | None = None
    """When best_of_n ends a pool before it is full; rewards and cost are nats of evidence."""
    steps: int = 64
    """Moves of each chain."""
    block: int = 4
    """Most tokens that block_mh rewrites at once."""
    rungs: int = 5
    """Powers of the evidence in parallel_tempering, from 1 down to 0."""
    particles: int = 64
    """Particles per run of smc, awrs and twisted_smc."""
    resample_below: float = 0.5
    """Effective share of the particles below which they are resampled."""
    twist: TwistConfig = field(default_factory=TwistConfig)
    """How twisted_smc learns its twist."""

    def __post_init__(self) -> None:
        if not 0 < self.tvd < 1:
            raise ConfigError(f"tvd must lie in (0, 1), got {self.tvd}")
        if self.log_bound is not None and not math.isfinite(self.log_bound):
            raise ConfigError(f"log_bound must be finite, got {self.log_bound}")
        least = {"pilot": 2, "pool": 1, "steps": 1, "block": 1, "rungs": 2, "particles": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if not 0 <= self.resample_below <= 1:
            raise ConfigError(f"resample_below must lie in [0, 1], got {self.resample_below}")


class Task(NamedTuple):
    """A request for draws.

    Attributes:
        target: prior and evidence, moments fitted.
        proposal: the law the sampler proposes from.
        n: draws wanted.
        config: settings.
        streams: named random numbers.
        context: one prompt for all draws, or None.
        twist: a learnt twist; None where the sampler has to learn one itself.
    """

    target: Target
    proposal: Law
    n: int
    config: SamplerConfig
    streams: Streams
    context: Context
    twist: Any


@dataclass(frozen=True)
class Drawn:
    """Draws and what is known about them.

    Attributes:
        x: n draws, in the model's form.
        facts: see `Facts`.
        curve: acceptance against total variation, where the sampler trades one for the other.
    """

    x: Samples
    facts: Facts
    curve: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Sampler:
    """A way to draw, and what its draws follow.

    Attributes:
        name: key in `SAMPLERS`.
        draw: does it.
        minimises: how its law relates to the target; None where it does not approximate it.
        needs_tokens: whether the prior's and the proposal's next-token laws have to be open.
    """

    name: str
    draw: Callable[[Task], Drawn]
    minimises: str | None
    needs_tokens: bool = False


def open_model(law: Law, sampler: str, role: str) -> TokenModel:
    """The law as a model whose next-token laws are open.

    Raises:
        ConfigError: if they are not.
    """
    if not isinstance(law, TokenModel):
        raise ConfigError(
            f"{sampler} needs a {role} whose next-token laws are open, got a {type(law).__name__}; "
            "use rejection, resample or independence_mh, which need draws alone"
        )
    return law
