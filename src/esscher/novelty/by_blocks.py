"""Exact sweeps over rows that are read by blocks, and what is kept between them.

A sweep by blocks is coordinate ascent on all rows; only sums stay in memory, and its bound is
exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.novelty.cavi import bound_of_sums, globals_of_sums
from esscher.novelty.model import GammaPrior, Posterior, Prior
from esscher.novelty.moments import features
from esscher.novelty.niw import NIW, Array, Index
from esscher.novelty.source import Source, blocks
from esscher.novelty.sweep import Block, Sums, Weigher
from esscher.novelty.weights import mean_concentration

__all__ = [
    "ROWS",
    "State",
    "StochasticFit",
    "label",
    "state_from_arrays",
    "state_to_arrays",
    "sweep",
    "weighed",
]

ROWS = 4096
"""Of a block that is weighed at once."""


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


def sweep(prior: Prior, state: State, source: Source, tol: float) -> State:
    """A sweep of coordinate ascent over all rows, and the exact bound after it."""
    weigher = Weigher(prior, state.posterior, state.origin, state.reach)
    sums: Sums | None = None
    for _, y in blocks(source, ROWS):
        part = weighed(weigher, y)
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
        part = weighed(weigher, y, phi)
        sums = part if sums is None else sums.plus(part)
        at = slice(start, start + len(y))
        novelty[at] = np.minimum(phi[j:].sum(0), 1.0)
        known[at], atom[at], component[at] = phi[:j].argmax(0), j + phi[j:].argmax(0), phi.argmax(0)
    assert sums is not None
    posterior = globals_of_sums(prior, sums, state.posterior)
    path = [*state.path, bound_of_sums(prior, posterior, sums)]
    return StochasticFit(posterior, path, state.converged, novelty, known, atom, component, state)


def weighed(weigher: Weigher, y: Array, out: Array | None = None) -> Sums:
    """Sums over rows, some at a time.

    Args:
        weigher: the posterior.
        y: [M, p] rows.
        out: [J + T, M] for the responsibilities; None where nobody wants them.
    """
    found: Sums | None = None
    for start in range(0, len(y), ROWS):
        part = y[start : start + ROWS]
        block = Block(start, part, features(part - weigher.origin))
        sums = weigher.weigh(block, None if out is None else out[:, start : start + len(part)])
        found = sums if found is None else found.plus(sums)
    assert found is not None
    return found


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
