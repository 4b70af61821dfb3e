"""What the posterior says of rows it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from esscher.novelty.model import GammaPrior, Posterior, Prior
from esscher.novelty.niw import NIW, Array, Index, student_log_density
from esscher.novelty.sampling import Chain, Rows, state_of

__all__ = ["Mixture", "Predicted", "mixture_of", "mixture_of_draws", "predict", "weights_of"]

DRAWS = 64
"""Draws of a chain, evenly spaced, that a predictive is averaged over."""


class Predicted(NamedTuple):
    """Rows under the posterior predictive.

    Attributes:
        log_density: [M] nats.
        shares: [M, C] probability of each component; the last is an atom not yet seen.
    """

    log_density: Array
    shares: Array


@dataclass(frozen=True)
class Mixture:
    """A mixture of Student-t laws, the predictives of N laws of mean and covariance.

    Attributes:
        laws: N of them.
        weights: [N] >= 0, summing to 1.
        owner: [N, C] how each law's rows are shared out among components; rows sum to 1.
    """

    laws: NIW
    weights: Array
    owner: Array


def weights_of(dirichlet: Array, sticks: Array) -> Array:
    """[J + H + 1] expected weights of classes, atoms and whatever is beyond the last stick.

    Args:
        dirichlet: [J + 1] parameters of π, the novelties' first.
        sticks: [H, 2] parameters of V.
    """
    share = dirichlet / dirichlet.sum()
    v = sticks[:, 0] / sticks.sum(1)
    left = np.append(1.0, np.cumprod(1 - v))
    found: Array = np.concatenate([share[1:], share[0] * left * np.append(v, 1.0)])
    return found


def mixture_of(prior: Prior, q: Posterior) -> Mixture:
    """Of variational factors: every component's law at its expected weight.

    Beyond the T atoms stands one more with the prior's own law: the last stick is broken like the
    others, V_T ~ Beta(1 + N_T, γ), instead of taking all.
    """
    rest = q.components.kappa[-1] - prior.components.kappa[-1]
    gamma = q.concentration or prior.concentration
    mean = gamma.shape / gamma.rate if isinstance(gamma, GammaPrior) else gamma
    weights = weights_of(q.dirichlet, np.concatenate([q.sticks, [[1.0 + rest, mean]]]))
    laws = NIW.stack(q.components, prior.components.take([-1]))
    return Mixture(laws, weights, np.eye(len(laws)))


def mixture_of_draws(prior: Prior, y: Array, chain: Chain, clusters: Index) -> Mixture:
    """Of a chain: the exact predictive given the labels of a draw, averaged over draws.

    Given labels and γ the parameters integrate out in closed form, so that a draw says more of a
    row than the parameters drawn with it would, and needs no rows of its own; a summary by one
    partition would be smaller and as sure of itself as that partition. What a draw gives to an atom
    goes to the clusters of the atom's rows, in proportion; empty atoms, and rows without a
    cluster, count as an atom not yet seen.

    Args:
        prior: of the chain.
        y: [M, p] its rows.
        chain: whose draws are used, at most 64 of them.
        clusters: [M] cluster of each row, from 0; -1 for rows without one.
    """
    j, rows = prior.n_known, Rows.of(y)
    n_clusters = int(clusters.max(initial=-1)) + 1
    used = np.unique(np.linspace(0, len(chain.labels) - 1, DRAWS).round().astype(int))
    unseen = prior.components.take([-1])
    laws, weights, owners, beyond = [], [], [], 0.0
    for s in used:
        labels = chain.labels[s].astype(np.int64)
        k = max(j + 1, int(labels.max()) + 1)
        base = NIW.stack(prior.components.take(slice(j)), unseen.take(np.zeros(k - j, dtype=int)))
        state = state_of(base, rows, labels, float(chain.concentration[s]))
        weight = _expected(prior, state.counts, state.concentration)
        held = np.append(np.arange(j), j + np.flatnonzero(state.counts[j:] > 0))
        laws.append(state.law.take(held))
        weights.append(weight[held])
        owners.append(_owner(labels, clusters, held, j, n_clusters))
        beyond += float(weight.sum() - weight[held].sum())
    last = np.zeros((1, j + n_clusters + 1))
    last[0, -1] = 1.0
    total = np.append(np.concatenate(weights), beyond) / len(used)
    return Mixture(NIW.stack(*laws, unseen), total, np.concatenate([*owners, last]))


def _expected(prior: Prior, counts: Array, gamma: float) -> Array:
    """[K + 1] weights expected given how many rows each of K components holds."""
    own = counts[prior.n_known :]
    dirichlet = prior.dirichlet + np.append(own.sum(), counts[: prior.n_known])
    later = np.append(np.cumsum(own[::-1])[::-1][1:], 0.0)
    return weights_of(dirichlet, np.stack([1.0 + own, gamma + later], 1))


def _owner(labels: Index, clusters: Index, held: Index, j: int, n_clusters: int) -> Array:
    """[len(held), J + C + 1] shares of a draw's components in classes and clusters."""
    out = np.zeros((len(held), j + n_clusters + 1))
    out[np.arange(j), np.arange(j)] = 1.0
    for i, k in enumerate(held[j:], j):
        own = clusters[labels == k]
        # Rows without a cluster are counted in the last place.
        counts = np.bincount(np.where(own < 0, n_clusters, own), minlength=n_clusters + 1)
        out[i, j:] = counts / len(own)
    return out


def predict(mixture: Mixture, y: Array) -> Predicted:
    """Each row on its own.

    A row far from everything is closest to the widest law, which is the novelties' prior.

    Args:
        mixture: of the fit.
        y: [M, p].
    """
    scores = student_log_density(mixture.laws, y)
    with np.errstate(divide="ignore"):
        scores += np.log(mixture.weights)
    norm = logsumexp(scores, axis=1, keepdims=True)
    return Predicted(norm[:, 0], np.exp(scores - norm) @ mixture.owner)
