"""The truncated model by blocked Gibbs sampling: slow, and right in the limit.

Every sweep draws weights, sticks, means and covariances given the labels, and the labels given
these; all conditionals are those of Ishwaran and James (2001). What variational inference says can
be held against it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError
from esscher.novelty.model import GammaPrior, Prior
from esscher.novelty.niw import NIW, Array, Index, squared_distances

__all__ = [
    "Chain",
    "Parameters",
    "Rows",
    "blocked_gibbs",
    "draw_labels",
    "draw_niw",
    "draw_parameters",
]


class Rows(NamedTuple):
    """A batch and what its sufficient statistics are sums of.

    Attributes:
        y: [M, p].
        products: [M, p²] outer squares.
    """

    y: Array
    products: Array

    @classmethod
    def of(cls, y: Array) -> Rows:
        """Rows with their squares."""
        return cls(y, np.einsum("mp,mq->mpq", y, y).reshape(len(y), y.shape[1] ** 2))


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


class Chain(NamedTuple):
    """Kept draws.

    Attributes:
        labels: [S, M] components.
        concentration: [S] γ.
        log_density: [S] log p(y | labels' parameters), nats.
    """

    labels: NDArray[np.int16]
    concentration: Array
    log_density: Array

    def shares(self, n_components: int) -> Array:
        """[M, n_components] share of the draws in which a row was of a component."""
        return np.stack([(self.labels == k).mean(0) for k in range(n_components)], 1)


def blocked_gibbs(
    prior: Prior,
    y: Array,
    labels: Index,
    *,
    sweeps: int,
    burn_in: int,
    rng: np.random.Generator,
) -> Chain:
    """Sample labels of a batch.

    Args:
        prior: the model.
        y: [M, p] rows.
        labels: [M] components to begin with.
        sweeps: draws kept, >= 1.
        burn_in: sweeps before them.
        rng: all randomness.

    Raises:
        ConfigError: if a number is out of range.
    """
    if sweeps < 1 or burn_in < 0:
        raise ConfigError(
            f"sweeps must be at least 1 and burn_in not negative, got {sweeps} and {burn_in}"
        )
    rows = Rows.of(y)
    kept = np.empty((sweeps, len(y)), dtype=np.int16)
    gammas, densities = np.empty(sweeps), np.empty(sweeps)
    gamma = _first_concentration(prior)
    for sweep in range(burn_in + sweeps):
        drawn = draw_parameters(prior, rows, labels, gamma, rng)
        labels, density = draw_labels(drawn, y, rng)
        gamma = drawn.concentration
        if sweep >= burn_in:
            kept[sweep - burn_in] = labels
            gammas[sweep - burn_in], densities[sweep - burn_in] = gamma, density
    return Chain(kept, gammas, densities)


def draw_parameters(
    prior: Prior, rows: Rows, labels: Index, gamma: float, rng: np.random.Generator
) -> Parameters:
    """Everything else given labels [M]."""
    j, k, t = prior.n_known, len(prior.components), prior.truncation
    member = np.zeros((k, len(labels)))
    member[labels, np.arange(len(labels))] = 1.0
    counts = member.sum(1)
    groups = np.append(counts[j:].sum(), counts[:j])
    shares = rng.dirichlet(prior.dirichlet + groups)
    later = np.cumsum(counts[j:][::-1])[::-1]
    sticks = rng.beta(1.0 + counts[j : k - 1], gamma + later[1:]) if t > 1 else np.empty(0)
    if isinstance(prior.concentration, GammaPrior):
        shape, rate = prior.concentration
        rest = np.log1p(-np.minimum(sticks, 1 - 1e-16)).sum()
        gamma = float(rng.gamma(shape + t - 1) / (rate - rest))
    omega = np.append(sticks, 1.0) * np.append(1.0, np.cumprod(1 - sticks))
    law = _posterior(prior.components, member @ rows.y, member @ rows.products, counts)
    mean, factor = draw_niw(law, rng)
    weights = np.concatenate([shares[1:], shares[0] * omega])
    return Parameters(weights, sticks, mean, factor, gamma)


def draw_labels(drawn: Parameters, y: Array, rng: np.random.Generator) -> tuple[Index, float]:
    """Labels [M] given the rest, and log Π_m Σ_k w_k N(y_m | k)."""
    p = y.shape[1]
    half_log_det = np.linalg.slogdet(drawn.factor)[1]
    with np.errstate(divide="ignore"):
        scores = np.log(drawn.weights) + half_log_det - 0.5 * p * math.log(2 * math.pi)
    scores = scores - 0.5 * squared_distances(y, drawn.mean, drawn.factor)
    top = scores.max(1, keepdims=True)
    cumulative = np.cumsum(np.exp(scores - top), axis=1)
    total = cumulative[:, -1:]
    labels = (cumulative < rng.random((len(y), 1)) * total).sum(1)
    return np.asarray(labels, dtype=np.int64), float((top[:, 0] + np.log(total[:, 0])).sum())


def draw_niw(law: NIW, rng: np.random.Generator) -> tuple[Array, Array]:
    """Means [K, p] and factors [K, p, p] of precisions, one draw of each law.

    Reference: Bartlett (1933) for the Wishart draw.
    """
    k, p = len(law), law.dim
    bartlett = np.tril(rng.standard_normal((k, p, p)), -1)
    diagonal = np.sqrt(rng.chisquare(law.dof[:, None] - np.arange(p)))
    bartlett[:, np.arange(p), np.arange(p)] = diagonal
    # W = C⁻ᵀ A A' C⁻¹ with Ψ = C C'; the whitener is C⁻ᵀ.
    factor = law.whitener @ bartlett
    noise = rng.standard_normal((k, p, 1))
    step = np.linalg.solve(factor.transpose(0, 2, 1), noise)[:, :, 0]
    return law.mean + step / np.sqrt(law.kappa)[:, None], factor


def _posterior(prior: NIW, sums: Array, squares: Array, counts: Array) -> NIW:
    """The conjugate update from sums [K, p] and sums of squares [K, p²]."""
    k, p = prior.mean.shape
    kappa = prior.kappa + counts
    mean = (prior.kappa[:, None] * prior.mean + sums) / kappa[:, None]
    outer = np.einsum("kp,kq->kpq", prior.mean, prior.mean) * prior.kappa[:, None, None]
    outer = outer - np.einsum("kp,kq->kpq", mean, mean) * kappa[:, None, None]
    scale = prior.scale + squares.reshape(k, p, p) + outer
    return NIW(mean, kappa, prior.dof + counts, 0.5 * (scale + scale.transpose(0, 2, 1)))


def _first_concentration(prior: Prior) -> float:
    gamma = prior.concentration
    return gamma.shape / gamma.rate if isinstance(gamma, GammaPrior) else gamma
