"""Where ascents begin: rows no known class explains, in clusters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from scipy.stats import chi2

from esscher.kit.require import require
from esscher.novelty.cavi import responsibilities
from esscher.novelty.model import GammaPrior, Posterior, Prior
from esscher.novelty.niw import NIW, Array, Index, squared_distances

__all__ = ["STARTS", "Start", "at_random", "from_prior", "kmeans", "kmeans_labels", "outlying"]

Start = Literal["outlying", "kmeans", "random", "prior"]
QUANTILES = (0.99, 0.999, 0.9, 0.99999)
"""Of the χ² law of a known class's distances, beyond which a row is outlying; start by start."""


def kmeans_labels(y: Array, n_clusters: int, rng: np.random.Generator) -> Index:
    """[M] cluster of each row, from one run of k-means."""
    n_clusters = min(n_clusters, len(np.unique(y, axis=0)))
    cluster = require("sklearn.cluster", extra="sklearn")
    model = cluster.KMeans(n_clusters, n_init=1, random_state=int(rng.integers(2**31)))
    found: Index = model.fit(y).labels_.astype(np.int64)
    return found


def outlying(prior: Prior, y: Array, rng: np.random.Generator, number: int) -> Array:
    """Rows beyond a quantile of every known class in clusters, the others in the nearest class."""
    j, t = prior.n_known, prior.truncation
    known = prior.components.take(slice(j))
    # Scales over dof - p - 1 are the covariances expected; where that has no mean, over dof.
    spare = np.maximum(known.dof - known.dim - 1, 1.0)
    distance = squared_distances(y, known.mean, known.whitener) * spare
    beyond = distance.min(1) > chi2.ppf(QUANTILES[number % len(QUANTILES)], known.dim)
    labels = distance.argmin(1).astype(np.int64)
    rows = np.flatnonzero(beyond)
    if len(rows):
        clusters = t if number % 2 == 0 else int(rng.integers(1, t + 1))
        labels[rows] = j + kmeans_labels(y[rows], min(clusters, len(rows)), rng)
    return _one_hot(labels, j + t)


def at_random(prior: Prior, y: Array, rng: np.random.Generator, number: int) -> Array:
    """Every row in a component drawn at random."""
    return _one_hot(rng.integers(len(prior.components), size=len(y)), len(prior.components))


def from_prior(prior: Prior, y: Array, rng: np.random.Generator, number: int) -> Array:
    """What the prior itself says of the rows."""
    return responsibilities(_prior_law(prior, prior.components), y)[0]


def kmeans(prior: Prior, y: Array, rng: np.random.Generator, number: int) -> Array:
    """Atoms at the centres of T clusters of all rows, their other numbers from the prior.

    As published; κ of the prior is then a variance of these centres, which costs an atom p / (2κ)
    nats per row until the first update and hides novelties from it where p is large.
    """
    labels = kmeans_labels(y, prior.truncation, rng)
    mean = prior.components.mean.copy()
    for h in range(int(labels.max()) + 1):
        mean[prior.n_known + h] = y[labels == h].mean(0)
    base = prior.components
    law = NIW(mean, base.kappa, base.dof, base.scale)
    return responsibilities(_prior_law(prior, law), y)[0]


def _prior_law(prior: Prior, components: NIW) -> Posterior:
    """The prior as a posterior, with other components."""
    gamma = prior.concentration
    mean = gamma.shape / gamma.rate if isinstance(gamma, GammaPrior) else gamma
    sticks = np.tile([1.0, mean], (prior.truncation - 1, 1))
    return Posterior(components, prior.n_known, prior.dirichlet, sticks)


def _one_hot(labels: Index, k: int) -> Array:
    out = np.zeros((len(labels), k))
    out[np.arange(len(labels)), labels] = 1.0
    return out


STARTS: Mapping[str, Callable[[Prior, Array, np.random.Generator, int], Array]] = MappingProxyType(
    {"outlying": outlying, "kmeans": kmeans, "random": at_random, "prior": from_prior}
)
"""name -> (prior, rows, randomness, number of the start) -> responsibilities [M, J + T]."""
