"""The model without truncation by the independent slice-efficient sampler.

A row's label competes only among components whose level ξ_k exceeds the row's slice
u ~ Uniform(0, ξ of its label). Levels fall geometrically behind the known classes, so that a sweep
meets finitely many atoms of infinitely many.

    ξ_k = (1 - κ) / (J + 1) for k <= J;  times r^(k - J - 1) beyond, r = (J + 1) κ / (J κ + 1)

References: Kalli, Griffin and Walker (2011) for the sampler; Denti, Cappozzo and Greselin (2021)
for the levels; Escobar and West (1995) for γ; Pitman (1996) for the order of atoms.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gammaln

from esscher.errors import ConfigError
from esscher.novelty.keeping import Keeper
from esscher.novelty.model import GammaPrior, Prior
from esscher.novelty.niw import NIW, Array, Index
from esscher.novelty.sampling import (
    Chain,
    Rows,
    Sampler,
    State,
    choose,
    component_scores,
    draw_niw,
    draw_shares,
    run_chain,
    state_of,
)

__all__ = ["SLICE", "active_components", "log_levels", "slice_sampler", "slots_of"]

KAPPA = 0.25
"""κ of the levels, in (0, 1): larger for levels that fall more slowly."""


def slice_sampler(
    prior: Prior,
    y: Array,
    labels: Index,
    *,
    sweeps: int,
    burn_in: int,
    rng: np.random.Generator,
    keeper: Keeper | None = None,
) -> Chain:
    """Sample labels of a batch; arguments and errors as those of `sampling.run_chain`.

    The prior's truncation is not used: its last atom's law is that of every atom. Known classes
    that are to stay as stage 1 left them ("inductive") are those of `settings.inductive`.
    """
    return run_chain(
        SLICE, prior, y, labels, sweeps=sweeps, burn_in=burn_in, rng=rng, keeper=keeper
    )


def log_levels(n_known: int, n_components: int, kappa: float = KAPPA) -> Array:
    """[n_components] log ξ of the first components.

    Raises:
        ConfigError: if κ is not in (0, 1).
    """
    if not 0 < kappa < 1:
        raise ConfigError(f"kappa must lie between 0 and 1, got {kappa}")
    behind = np.maximum(np.arange(n_components) - n_known, 0)
    return _log_first(n_known, kappa) + behind * _log_ratio(n_known, kappa)


def active_components(n_known: int, log_slice: float, kappa: float = KAPPA) -> int:
    """How many components have a level above a slice: J known ones and at least one atom."""
    beyond = (log_slice - _log_first(n_known, kappa)) / _log_ratio(n_known, kappa)
    return n_known + 1 + max(0, math.floor(beyond))


def _log_first(n_known: int, kappa: float) -> float:
    return math.log((1 - kappa) / (n_known + 1))


def _log_ratio(n_known: int, kappa: float) -> float:
    return math.log((n_known + 1) * kappa / (n_known * kappa + 1))


def _placed(prior: Prior, rows: Rows, labels: Index, gamma: float) -> State:
    """Components up to the last that holds a row, one atom at least."""
    j = prior.n_known
    k = max(j + 1, int(labels.max(initial=0)) + 1)
    return state_of(_base(prior, k), rows, labels, gamma)


def _base(prior: Prior, k: int) -> NIW:
    """The known laws and as many copies of the atoms' as make k."""
    j = prior.n_known
    return prior.components.take(np.append(np.arange(j), np.full(k - j, len(prior.components) - 1)))


def _swept(prior: Prior, rows: Rows, state: State, rng: np.random.Generator) -> State:
    j = prior.n_known
    gamma = _drawn_concentration(prior, state, rng)
    state = _in_new_slots(prior, state, gamma, rng)
    log_slice = np.log1p(-rng.random(len(rows.y)))
    log_slice += log_levels(j, len(state.counts))[state.labels]
    k = max(active_components(j, float(log_slice.min(initial=0.0))), len(state.counts))
    levels = log_levels(j, k)
    law = NIW.stack(state.law, _base(prior, j + k - len(state.counts)).take(slice(j, None)))
    log_weights = _drawn_log_weights(prior, state, gamma, k, rng)
    scores = component_scores(log_weights - levels, *draw_niw(law, rng), rows.y)
    scores[log_slice[:, None] > levels] = -np.inf
    return _placed(prior, rows, choose(scores, rng), gamma)


def _drawn_concentration(prior: Prior, state: State, rng: np.random.Generator) -> float:
    """γ given how many rows are novel and how many atoms they share, sticks integrated out."""
    if not isinstance(prior.concentration, GammaPrior):
        return prior.concentration
    shape, rate = prior.concentration
    counts = state.counts[prior.n_known :]
    n, clusters = float(counts.sum()), int((counts > 0).sum())
    if n == 0:
        return float(rng.gamma(shape) / rate)
    rate -= math.log(rng.beta(state.concentration + 1, n))
    odds = (shape + clusters - 1) / (n * rate)
    more = rng.random() < odds / (1 + odds)
    return float(rng.gamma(shape + clusters - (0 if more else 1)) / rate)


def _in_new_slots(prior: Prior, state: State, gamma: float, rng: np.random.Generator) -> State:
    """The same clusters at places in the order of atoms drawn anew.

    γ was drawn given the partition, on which the places depend as well: kept from the last γ, they
    would not follow the joint law. Large atoms come forward, where levels are high.
    """
    j = prior.n_known
    held = np.flatnonzero(state.counts[j:] > 0)
    slots = slots_of(state.counts[j:][held], gamma, rng)
    k = j + 1 + int(slots.max(initial=0))
    source = np.full(k, len(state.counts))
    source[:j], source[j + slots] = np.arange(j), j + held
    place = np.zeros(len(state.counts), dtype=np.int64)
    place[:j], place[j + held] = np.arange(j), j + slots
    law = NIW.stack(state.law, prior.components.take([-1])).take(source)
    counts = np.append(state.counts, 0.0)[source]
    return State(place[state.labels], gamma, counts, _base(prior, k), law)


def slots_of(sizes: Array, gamma: float, rng: np.random.Generator) -> Index:
    """[K] places, from 0, of clusters of these sizes among the atoms of GEM(γ) sticks.

    Given the partition the clusters' weights and what is left are Dirichlet(n_1, ..., n_K, γ), the
    rest is cut by GEM(γ) sticks, and sticks are in size-biased order.
    """
    k = len(sizes)
    slots = np.full(k, -1, dtype=np.int64)
    if not k:
        return slots
    weights = rng.dirichlet(np.append(sizes, gamma))
    rest, place = float(weights[-1]), 0
    left = weights[:-1].copy()
    while bool((slots < 0).any()):
        waiting = np.flatnonzero(slots < 0)
        if left[waiting].sum() == 0:
            # Weights that underflowed come last, in any order.
            slots[waiting] = place + rng.permutation(len(waiting))
            break
        cumulative = np.cumsum(np.append(left[waiting], rest))
        pick = int((cumulative <= rng.random() * cumulative[-1]).sum())
        if pick < len(waiting):
            slots[waiting[pick]] = place
        else:
            rest *= 1 - rng.beta(1.0, gamma)
        place += 1
    return slots


def _drawn_log_weights(
    prior: Prior, state: State, gamma: float, k: int, rng: np.random.Generator
) -> Array:
    """[k] of J known classes and the first atoms, given the labels; the rest has the others."""
    j = prior.n_known
    shares = draw_shares(prior, state, rng)
    counts = np.append(state.counts[j:], np.zeros(k - len(state.counts)))
    later = np.append(np.cumsum(counts[::-1])[::-1][1:], 0.0)
    sticks = rng.beta(1.0 + counts, gamma + later)
    with np.errstate(divide="ignore"):
        before = np.append(0.0, np.cumsum(np.log1p(-sticks))[:-1])
        found: Array = np.concatenate(
            [np.log(shares[1:]), np.log(shares[0]) + np.log(sticks) + before]
        )
    return found


def _log_labels(prior: Prior, state: State) -> float:
    """Of the partition, whatever the places of its clusters."""
    counts = state.counts[prior.n_known :]
    own, gamma = counts[counts > 0], state.concentration
    found = gammaln(own).sum() + gammaln(gamma) - gammaln(gamma + own.sum())
    return float(found) + len(own) * math.log(gamma)


SLICE = Sampler(_placed, _swept, _log_labels)
