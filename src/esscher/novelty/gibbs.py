"""The truncated model by blocked Gibbs sampling: slow, and right in the limit.

Every sweep draws weights, sticks, means and covariances given the labels, and the labels given
these; all conditionals are those of Ishwaran and James (2001). Atoms also change places with their
neighbours, which the conditionals hardly ever let them do (Papaspiliopoulos and Roberts, 2008).
What variational inference says can be held against it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import betaln

from esscher.novelty.keeping import Keeper
from esscher.novelty.model import GammaPrior, Prior
from esscher.novelty.niw import Array, Index
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

__all__ = [
    "GIBBS",
    "Parameters",
    "blocked_gibbs",
    "draw_labels",
    "draw_parameters",
    "exchanged",
]


class Parameters(NamedTuple):
    """One draw of everything but the labels.

    Attributes:
        weights: [J + T] probabilities of the components.
        sticks: [T - 1] V.
        mean: [J + T, p] μ.
        factor: [J + T, p, p] F with Σ⁻¹ = F F'.
        concentration: γ.
    """

    weights: Array
    sticks: Array
    mean: Array
    factor: Array
    concentration: float


def blocked_gibbs(
    prior: Prior,
    y: Array,
    labels: Index,
    *,
    sweeps: int,
    burn_in: int,
    rng: np.random.Generator,
    keeper: Keeper | None = None,
) -> Chain:
    """Sample labels of a batch; arguments and errors as those of `sampling.run_chain`."""
    return run_chain(
        GIBBS, prior, y, labels, sweeps=sweeps, burn_in=burn_in, rng=rng, keeper=keeper
    )


def _placed(prior: Prior, rows: Rows, labels: Index, gamma: float) -> State:
    return state_of(prior.components, rows, labels, gamma)


def _swept(prior: Prior, rows: Rows, state: State, rng: np.random.Generator) -> State:
    drawn = draw_parameters(prior, state, rng)
    labels = exchanged(prior, draw_labels(drawn, rows.y, rng), drawn.concentration, rng)
    return _placed(prior, rows, labels, drawn.concentration)


def draw_parameters(prior: Prior, state: State, rng: np.random.Generator) -> Parameters:
    """Everything else given the labels, and the sticks given the last γ."""
    j, t, gamma = prior.n_known, prior.truncation, state.concentration
    shares = draw_shares(prior, state, rng)
    counts, later = _counts(prior, state)
    sticks = rng.beta(1.0 + counts[:-1], gamma + later[1:]) if t > 1 else np.empty(0)
    if isinstance(prior.concentration, GammaPrior):
        shape, rate = prior.concentration
        rest = np.log1p(-np.minimum(sticks, 1 - 1e-16)).sum()
        gamma = float(rng.gamma(shape + t - 1) / (rate - rest))
    omega = np.append(sticks, 1.0) * np.append(1.0, np.cumprod(1 - sticks))
    mean, factor = draw_niw(state.law, rng)
    weights = np.concatenate([shares[1:], shares[0] * omega])
    assert len(weights) == j + t
    return Parameters(weights, sticks, mean, factor, gamma)


def draw_labels(drawn: Parameters, y: Array, rng: np.random.Generator) -> Index:
    """Labels [M] given the rest."""
    with np.errstate(divide="ignore"):
        log_weights = np.log(drawn.weights)
    return choose(component_scores(log_weights, drawn.mean, drawn.factor, y), rng)


def exchanged(prior: Prior, labels: Index, gamma: float, rng: np.random.Generator) -> Index:
    """Labels [M] where neighbouring atoms may have changed places, the sticks integrated out.

    Metropolis-Hastings: atoms of a and b rows with R behind them change places with probability
    min(1, (γ + b + R) / (γ + a + R)), the ratio of the two orders; the last atom has no stick.
    """
    j, t = prior.n_known, prior.truncation
    counts = np.bincount(labels, minlength=j + t)[j:].tolist()
    place, behind = list(range(t)), sum(counts)
    chance = np.log1p(-rng.random(max(t - 1, 0))).tolist()
    for h in range(t - 1):
        a, b = counts[h], counts[h + 1]
        behind -= a
        if h < t - 2:
            ratio = math.log(gamma + behind) - math.log(gamma + behind - b + a)
        else:
            ratio = math.lgamma(1 + b) + math.lgamma(gamma + a)
            ratio -= math.lgamma(1 + a) + math.lgamma(gamma + b)
        if chance[h] < ratio:
            counts[h], counts[h + 1] = b, a
            place[h], place[h + 1] = place[h + 1], place[h]
            behind += a - b
    to = np.append(np.arange(j), j + np.argsort(place))
    found: Index = to[labels]
    return found


def _log_labels(prior: Prior, state: State) -> float:
    """Of atoms in their order, the sticks integrated out."""
    counts, later = _counts(prior, state)
    gamma = state.concentration
    found = betaln(1.0 + counts[:-1], gamma + later[1:]).sum()
    return float(found) + (prior.truncation - 1) * math.log(gamma)


def _counts(prior: Prior, state: State) -> tuple[Array, Array]:
    """[T] rows of each atom, and of it and all later ones."""
    counts = state.counts[prior.n_known :]
    return counts, np.cumsum(counts[::-1])[::-1]


GIBBS = Sampler(_placed, _swept, _log_labels)
