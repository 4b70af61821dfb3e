"""Batches larger than memory: stochastic steps, then exact sweeps by blocks.

Every natural parameter of the global factors is its prior's plus a sum over rows, so that a
natural-gradient step averages the present sums with those of a minibatch, scaled up. Exact
sweeps by blocks of all rows follow.

Reference: Hoffman, Blei, Wang and Paisley (2013), "Stochastic variational inference".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from esscher.errors import CheckpointError, ConfigError, ShapeError
from esscher.novelty.by_blocks import ROWS, State, StochasticFit, label, sweep, weighed
from esscher.novelty.cavi import globals_of_sums
from esscher.novelty.fit import SearchConfig, search, truncated
from esscher.novelty.model import GammaPrior, Posterior, Prior
from esscher.novelty.moments import niw_from_moments, translated
from esscher.novelty.niw import Array
from esscher.novelty.source import Minibatches, Source, blocks, open_source
from esscher.novelty.sweep import Sums, Weigher
from esscher.novelty.weights import (
    concentration_posterior,
    dirichlet_posterior,
    mean_concentration,
    stick_posterior,
)

__all__ = ["StochasticConfig", "init", "step", "stochastic_fit"]


@dataclass(frozen=True)
class StochasticConfig:
    """How a batch that is read by parts is fitted.

    Attributes:
        epochs: passes of stochastic steps over all rows, >= 0; 0 for sweeps by blocks alone.
        batch: rows of a minibatch, >= 1.
        pool: rows held at once, among which minibatches are drawn, at least `batch`.
        delay: τ >= 0 of the rate (t + τ)^-κ of step t = 1, 2, ...
        forgetting: κ, in (0.5, 1].
        sweeps: most exact sweeps by blocks that follow, >= 1.
        tol: nats per row below which a sweep is the last.
        subsample: rows drawn at random that the search begins with, >= 1.
        search: of these rows; its seed gives way to the one below.
        seed: of all draws.
    """

    epochs: int = 1
    batch: int = 8192
    pool: int = 131_072
    delay: float = 8.0
    forgetting: float = 0.7
    sweeps: int = 100
    tol: float = 1e-7
    subsample: int = 20_000
    search: SearchConfig = field(default_factory=lambda: SearchConfig(n_starts=4))
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.sweeps < 1 or self.subsample < 1 or not self.tol > 0:
            raise ConfigError(
                "epochs must not be negative, sweeps and subsample at least 1 and tol positive, "
                f"got {self.epochs}, {self.sweeps}, {self.subsample} and {self.tol}"
            )
        if not 1 <= self.batch <= self.pool:
            raise ConfigError(f"1 <= batch <= pool is needed, got {self.batch} and {self.pool}")
        if not (0.5 < self.forgetting <= 1 and self.delay >= 0):
            raise ConfigError(
                "forgetting must lie in (0.5, 1] and delay not be negative, got "
                f"{self.forgetting} and {self.delay}"
            )

    def rate(self, step: int) -> float:
        """Robbins-Monro rate of a step, from 1 on."""
        return float((step + self.delay) ** -self.forgetting)


def stochastic_fit(
    prior: Prior,
    rows: Any,
    config: StochasticConfig,
    *,
    state: State | None = None,
    on_state: Callable[[State], None] | None = None,
) -> StochasticFit:
    """Fit rows that are read by parts.

    A search on a subsample, stochastic steps if wanted, exact sweeps by blocks until the bound
    stands still, and a look that writes what the posterior says of each row.

    Args:
        prior: the model.
        rows: [M, p]: anything with a length and slices, a path of a .npy or Parquet file, or what
            `open_source` makes of these.
        config: settings.
        state: where to go on, as `on_state` was given it; None to begin.
        on_state: called after every step and sweep.

    Raises:
        DataError: if rows cannot be read or are not finite, naming the first such row.
        ShapeError: if rows have another number of columns than the model.
        CheckpointError: if the state is of another batch.
    """
    source = open_source(rows)
    if source.dim != prior.components.dim:
        raise ShapeError(f"rows need {prior.components.dim} columns, got {source.dim}")
    if state is not None and state.rows != len(source):
        raise CheckpointError(
            f"the state is of a batch of {state.rows} rows, and this one has {len(source)}"
        )
    prior = truncated(prior, min(len(source), config.subsample))
    tell = on_state or (lambda _: None)
    if state is None:
        state = init(prior, source, config)
        tell(state)
    minibatches = Minibatches(source, batch=config.batch, pool=config.pool, seed=state.seed)
    while state.epoch < config.epochs and not state.path:
        y = minibatches.rows(state.epoch, state.number)
        state = _counted(step(prior, state, y, config.rate(state.steps + 1)), minibatches)
        tell(state)
    while not state.converged and len(state.path) < config.sweeps:
        state = sweep(prior, state, source, config.tol)
        tell(state)
    return label(prior, state, source)


def init(prior: Prior, source: Source, config: StochasticConfig) -> State:
    """The best fit of a subsample, its sums scaled up to all rows."""
    sample, low, high = _survey(source, config)
    found = search(prior, sample, replace(config.search, seed=config.seed)).best
    origin = sample.mean(0)
    reach = float(np.square(np.maximum(high - origin, origin - low)).sum())
    weigher = Weigher(prior, found.posterior, origin, reach)
    sums = _scaled(weighed(weigher, sample), len(source) / len(sample))
    posterior = globals_of_sums(prior, sums, found.posterior)
    pull = mean_concentration(prior, posterior.concentration)
    return State(posterior, sums, pull, len(source), origin, reach, config.seed)


def step(prior: Prior, state: State, y: Array, rate: float) -> State:
    """A natural-gradient step on all global factors.

    Args:
        prior: the model.
        state: the present.
        y: [b, p] rows drawn at random.
        rate: in (0, 1]; with all rows and 1 the step is a sweep.
    """
    weigher = Weigher(prior, state.posterior, state.origin, state.reach)
    fresh = _scaled(weighed(weigher, y), state.rows / len(y))
    held = translated(state.sums.moments, state.sums.origin, fresh.origin)
    sums = Sums(
        (1 - rate) * held + rate * fresh.moments,
        fresh.origin,
        (1 - rate) * state.sums.entropy + rate * fresh.entropy,
    )
    learnt = _learnt(prior, state.posterior, rate)
    pull = (1 - rate) * state.pull + rate * mean_concentration(prior, learnt)
    posterior = Posterior(
        niw_from_moments(prior.components, sums.moments, sums.origin),
        prior.n_known,
        dirichlet_posterior(prior, sums.counts),
        stick_posterior(sums.counts[prior.n_known :], pull),
        learnt,
    )
    return state._replace(posterior=posterior, sums=sums, pull=pull, steps=state.steps + 1)


def _learnt(prior: Prior, q: Posterior, rate: float) -> GammaPrior | None:
    target = concentration_posterior(prior, q)
    if target is None or q.concentration is None:
        return target
    pairs = zip(q.concentration, target, strict=True)
    return GammaPrior(*((1 - rate) * old + rate * new for old, new in pairs))


def _counted(state: State, minibatches: Minibatches) -> State:
    """The same, at the next minibatch."""
    number = state.number + 1
    if number < minibatches.count(state.epoch):
        return state._replace(number=number)
    return state._replace(epoch=state.epoch + 1, number=0)


def _scaled(sums: Sums, factor: float) -> Sums:
    return Sums(factor * sums.moments, sums.origin, factor * sums.entropy)


def _survey(source: Source, config: StochasticConfig) -> tuple[Array, Array, Array]:
    """A subsample without order, and the least and largest of every column; reads all rows."""
    m = len(source)
    rng = np.random.default_rng([config.seed, 0, 0, 1])
    wanted = np.sort(rng.choice(m, size=min(config.subsample, m), replace=False))
    sample = np.empty((len(wanted), source.dim))
    low, high = np.full(source.dim, math.inf), np.full(source.dim, -math.inf)
    for start, y in blocks(source, ROWS):
        first, last = np.searchsorted(wanted, (start, start + len(y)))
        sample[first:last] = y[wanted[first:last] - start]
        low, high = np.minimum(low, y.min(0)), np.maximum(high, y.max(0))
    return sample, low, high
