"""Batches larger than memory: stochastic steps, then exact sweeps by blocks.

Every natural parameter of the global factors is its prior's plus a sum over rows, so that a
natural-gradient step averages the present sums with those of a minibatch, scaled up. A sweep by
blocks is coordinate ascent on all rows; only sums stay in memory, and its bound is exact.

Reference: Hoffman, Blei, Wang and Paisley (2013), "Stochastic variational inference".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError
from esscher.novelty.cavi import bound_of_sums, globals_of_sums
from esscher.novelty.fit import SearchConfig, search, truncated
from esscher.novelty.model import GammaPrior, Posterior, Prior
from esscher.novelty.moments import features, niw_from_moments, translated
from esscher.novelty.niw import NIW, Array, Index
from esscher.novelty.source import Minibatches, Source, blocks, open_source
from esscher.novelty.sweep import Block, Sums, Weigher
from esscher.novelty.weights import (
    concentration_posterior,
    dirichlet_posterior,
    mean_concentration,
    stick_posterior,
)

__all__ = [
    "State",
    "StochasticConfig",
    "StochasticFit",
    "init",
    "label",
    "state_from_arrays",
    "state_to_arrays",
    "step",
    "stochastic_fit",
    "sweep",
]

ROWS = 4096
"""Of a block that is weighed at once."""


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
        search: of these rows.
        seed: of all draws.
    """

    epochs: int = 0
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


class State(NamedTuple):
    """All that the next step needs; minibatches depend on the seed, the epoch and a number only.

    Attributes:
        posterior: the global factors.
        sums: over all M rows, as far as known.
        pull: what the sticks' second parameters hold besides rows: γ, or a mean of E[γ].
        rows: M.
        origin: [p] of the features.
        reach: largest squared distance of a row from it, or a little more.
        seed: of the minibatches.
        steps: stochastic steps so far.
        epoch: of the next minibatch.
        number: of the next minibatch in its epoch.
        path: the bound after every exact sweep, nats.
        converged: whether the last sweep raised it by less than the tolerance.
    """

    posterior: Posterior
    sums: Sums
    pull: float
    rows: int
    origin: Array
    reach: float
    seed: int
    steps: int = 0
    epoch: int = 0
    number: int = 0
    path: tuple[float, ...] = ()
    converged: bool = False


class StochasticFit(NamedTuple):
    """The posterior, and what it says of each row, without responsibilities by component.

    Attributes:
        posterior: the global factors.
        path: the bound over all rows after every exact sweep, nats.
        converged: whether the last raised it by less than the tolerance.
        novelty: [M] P(novel).
        known: [M] most probable known class.
        atom: [M] most probable novel component, J and above.
        component: [M] most probable component of all.
        state: from which `stochastic_fit` can go on.
    """

    posterior: Posterior
    path: list[float]
    converged: bool
    novelty: Array
    known: NDArray[np.int16]
    atom: NDArray[np.int16]
    component: NDArray[np.int16]
    state: State

    @property
    def elbo(self) -> float:
        """The bound at the end."""
        return self.path[-1]

    def components(self, rule: str = "summed") -> Index:
        """[M] component by "summed" (novel where P(novel) > 1/2) or "argmax"."""
        if rule == "argmax":
            return self.component.astype(np.int64)
        return np.where(self.novelty > 0.5, self.atom, self.known).astype(np.int64)


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
    """
    source = open_source(rows)
    prior = truncated(prior, len(source))
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
    sums = _scaled(_weighed(weigher, sample), len(source) / len(sample))
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
    fresh = _scaled(_weighed(weigher, y), state.rows / len(y))
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


def sweep(prior: Prior, state: State, source: Source, tol: float) -> State:
    """A sweep of coordinate ascent over all rows, and the exact bound after it."""
    weigher = Weigher(prior, state.posterior, state.origin, state.reach)
    sums: Sums | None = None
    for _, y in blocks(source, ROWS):
        part = _weighed(weigher, y)
        sums = part if sums is None else sums.plus(part)
    assert sums is not None
    sums = _ordered(prior, sums, state.posterior)
    posterior = globals_of_sums(prior, sums, state.posterior)
    value = bound_of_sums(prior, posterior, sums)
    still = bool(state.path) and value - state.path[-1] < tol * state.rows
    pull = mean_concentration(prior, posterior.concentration)
    return state._replace(
        posterior=posterior, sums=sums, pull=pull, path=(*state.path, value), converged=still
    )


def _ordered(prior: Prior, sums: Sums, before: Posterior) -> Sums:
    """The same with atoms in falling order of size, where the bound likes that better."""
    j = prior.n_known
    order = np.append(np.arange(j), j + np.argsort(-sums.counts[j:], kind="stable"))
    if not prior.atoms_alike or bool((order == np.arange(len(order))).all()):
        return sums
    other = Sums(sums.moments[order], sums.origin[order], sums.entropy)
    bounds = [
        bound_of_sums(prior, globals_of_sums(prior, each, before), each) for each in (sums, other)
    ]
    return other if bounds[1] > bounds[0] else sums


def label(prior: Prior, state: State, source: Source) -> StochasticFit:
    """A look that writes what the posterior says of every row; itself a last sweep."""
    j, m = prior.n_known, len(source)
    novelty = np.empty(m)
    known, atom, component = (np.empty(m, dtype=np.int16) for _ in range(3))
    weigher = Weigher(prior, state.posterior, state.origin, state.reach)
    sums: Sums | None = None
    for start, y in blocks(source, ROWS):
        phi = np.empty((len(prior.components), len(y)))
        part = _weighed(weigher, y, phi)
        sums = part if sums is None else sums.plus(part)
        at = slice(start, start + len(y))
        novelty[at] = np.minimum(phi[j:].sum(0), 1.0)
        known[at], atom[at], component[at] = phi[:j].argmax(0), j + phi[j:].argmax(0), phi.argmax(0)
    assert sums is not None
    posterior = globals_of_sums(prior, sums, state.posterior)
    path = [*state.path, bound_of_sums(prior, posterior, sums)]
    return StochasticFit(posterior, path, state.converged, novelty, known, atom, component, state)


def _weighed(weigher: Weigher, y: Array, out: Array | None = None) -> Sums:
    """Sums over rows, some at a time."""
    found: Sums | None = None
    for start in range(0, len(y), ROWS):
        part = y[start : start + ROWS]
        block = Block(start, part, features(part - weigher.origin))
        sums = weigher.weigh(block, None if out is None else out[:, start : start + len(part)])
        found = sums if found is None else found.plus(sums)
    assert found is not None
    return found


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


def state_to_arrays(state: State) -> dict[str, Array]:
    """A state as float64 arrays, for safetensors or .npz."""
    q = state.posterior
    gamma = q.concentration
    return {
        "mean": q.components.mean,
        "kappa": q.components.kappa,
        "dof": q.components.dof,
        "scale": q.components.scale,
        "dirichlet": q.dirichlet,
        "sticks": q.sticks,
        "concentration": np.array([] if gamma is None else list(gamma), dtype=np.float64),
        "moments": state.sums.moments,
        "origins": state.sums.origin,
        "origin": state.origin,
        "path": np.array(state.path, dtype=np.float64),
        "numbers": np.array(
            [
                state.sums.entropy, state.pull, state.reach, q.n_known, state.rows, state.seed,
                state.steps, state.epoch, state.number, state.converged,
            ],
            dtype=np.float64,
        ),
    }  # fmt: skip


def state_from_arrays(arrays: dict[str, Array]) -> State:
    """What `state_to_arrays` was given."""
    entropy, pull, reach, *whole = arrays["numbers"].tolist()
    n_known, rows, seed, steps, epoch, number, converged = map(int, whole)
    law = NIW(*(arrays[name] for name in ("mean", "kappa", "dof", "scale")))
    gamma = arrays["concentration"].tolist()
    return State(
        Posterior(
            law,
            n_known,
            arrays["dirichlet"],
            arrays["sticks"],
            GammaPrior(*gamma) if gamma else None,
        ),
        Sums(arrays["moments"], arrays["origins"], entropy),
        pull,
        rows,
        arrays["origin"],
        reach,
        seed,
        steps,
        epoch,
        number,
        tuple(arrays["path"].tolist()),
        bool(converged),
    )
