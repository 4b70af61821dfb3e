"""What the samplers of the model share: sufficient statistics, draws of laws, the loop.

The state of a chain is its labels and the concentration; all else is drawn anew in every sweep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from esscher.errors import ConfigError
from esscher.kit.runs.seeds import rng_state, set_rng_state
from esscher.novelty.keeping import Keeper
from esscher.novelty.model import GammaPrior, Prior
from esscher.novelty.niw import NIW, Array, Index, log_evidence, squared_distances

__all__ = [
    "Chain",
    "Rows",
    "Sampler",
    "State",
    "choose",
    "component_scores",
    "draw_niw",
    "draw_shares",
    "run_chain",
    "state_of",
]

BLOCK = 50
"""Sweeps between two calls of a keeper."""
SETTLED = 1.1
"""A scale reduction below this passes for a chain that has settled."""


class Rows(NamedTuple):
    """A batch and what its sufficient statistics are sums of.

    Attributes:
        y: [M, p].
        products: [M, p²] outer squares.
    """

    y: Array
    products: Array

    @classmethod
    def of(cls, y: Array) -> Self:
        """Rows with their squares."""
        return cls(y, np.einsum("mp,mq->mpq", y, y).reshape(len(y), y.shape[1] ** 2))


class State(NamedTuple):
    """Where a chain is, and what the labels make of the components.

    Attributes:
        labels: [M] components, the J known classes first.
        concentration: γ.
        counts: [K] rows of each component.
        base: K laws of mean and covariance before the rows.
        law: K laws of mean and covariance given the labels.
    """

    labels: Index
    concentration: float
    counts: Array
    base: NIW
    law: NIW


class Sampler(NamedTuple):
    """One way to sample.

    Attributes:
        place: (prior, rows, labels, γ) -> the state.
        sweep: (prior, rows, state, randomness) -> the next state.
        log_labels: (prior, state) -> log p(which rows share an atom | the novel ones, γ), nats.
    """

    place: Callable[[Prior, Rows, Index, float], State]
    sweep: Callable[[Prior, Rows, State, np.random.Generator], State]
    log_labels: Callable[[Prior, State], float]


class Chain(NamedTuple):
    """Draws of labels, and the way to them.

    Attributes:
        labels: [S, M] components, kept draws only.
        concentration: [S] γ, kept draws only.
        log_joint: [B + S] log p(y, labels, γ) after every sweep, nats.
        clusters: [B + S] atoms that hold a row, after every sweep.
    """

    labels: NDArray[np.int16]
    concentration: Array
    log_joint: Array
    clusters: Array

    @property
    def burn_in(self) -> int:
        """B, sweeps before the first draw that was kept."""
        return len(self.log_joint) - len(self.labels)

    def shares(self, n_components: int) -> Array:
        """[M, n_components] share of the draws in which a row was of a component."""
        return np.stack([(self.labels == k).mean(0) for k in range(n_components)], 1)

    def scale_reduction(self) -> float:
        """Of the log joint and of the number of clusters, whichever is larger.

        Between both halves of the kept draws: near 1 where they look alike, infinite where each
        stands still at a place of its own or there are fewer than four draws.

        Reference: Gelman and Rubin (1992), for the halves of one chain.
        """
        kept = slice(self.burn_in, None)
        return max(_reduction(self.log_joint[kept]), _reduction(self.clusters[kept]))

    @property
    def settled(self) -> bool:
        """Whether the scale reduction is below 1.1; a chain cannot say more of itself."""
        return self.scale_reduction() < SETTLED


def _reduction(values: Array) -> float:
    n = len(values) // 2
    if n < 2:
        return math.inf
    halves = np.stack([values[:n], values[-n:]])
    within, between = float(halves.var(1, ddof=1).mean()), float(halves.mean(1).var(ddof=1))
    if within == 0:
        return 1.0 if between == 0 else math.inf
    return math.sqrt((n - 1) / n + between / within)


def run_chain(
    sampler: Sampler,
    prior: Prior,
    y: Array,
    labels: Index,
    *,
    sweeps: int,
    burn_in: int,
    rng: np.random.Generator,
    keeper: Keeper | None = None,
) -> Chain:
    """Sample labels of a batch.

    Args:
        sampler: what a sweep does.
        prior: the model.
        y: [M, p] rows.
        labels: [M] components to begin with.
        sweeps: draws kept, >= 1.
        burn_in: sweeps before them.
        rng: all randomness.
        keeper: hears of every 50 sweeps, and may know the chain so far.

    Raises:
        ConfigError: if a number is out of range.
    """
    if sweeps < 1 or burn_in < 0:
        raise ConfigError(
            f"sweeps must be at least 1 and burn_in not negative, got {sweeps} and {burn_in}"
        )
    total = burn_in + sweeps
    kept = np.zeros((sweeps, len(y)), dtype=np.int16)
    chain = Chain(kept, np.zeros(sweeps), np.zeros(total), np.zeros(total))
    begin, gamma = 0, _first_concentration(prior)
    saved = None if keeper is None else keeper.recall()
    if saved is not None:
        begin, labels, gamma = _recalled(saved, chain, rng)
    rows = Rows.of(y)
    state = sampler.place(prior, rows, labels, gamma)
    for done in range(begin + 1, total + 1):
        state = sampler.sweep(prior, rows, state, rng)
        if done > burn_in:
            kept[done - burn_in - 1] = state.labels
            chain.concentration[done - burn_in - 1] = state.concentration
        chain.log_joint[done - 1] = _log_joint(prior, state) + sampler.log_labels(prior, state)
        chain.clusters[done - 1] = (state.counts[prior.n_known :] > 0).sum()
        if keeper is not None and (done % BLOCK == 0 or done == total):
            numbers: dict[str, object] = {"clusters": int(chain.clusters[done - 1])}
            numbers["log_joint"] = float(chain.log_joint[done - 1])
            keeper.keep(done, total, _snapshot(chain, done, state, rng), numbers)
    return chain


def _snapshot(
    chain: Chain, done: int, state: State, rng: np.random.Generator
) -> Callable[[], Mapping[str, Any]]:
    """All that is needed to go on; the arrays are read when it is called, and only their past."""
    random, labels, gamma = rng_state(rng), state.labels, state.concentration
    kept = max(0, done - chain.burn_in)

    def write() -> Mapping[str, Any]:
        return {
            "done": done,
            "random": random,
            "labels": labels,
            "gamma": gamma,
            "kept": chain.labels[:kept],
            "concentration": chain.concentration[:kept],
            "log_joint": chain.log_joint[:done],
            "clusters": chain.clusters[:done],
        }

    return write


def _recalled(
    saved: Mapping[str, Any], chain: Chain, rng: np.random.Generator
) -> tuple[int, Index, float]:
    """Fill the chain with its past and set the generator: sweeps done, labels, γ."""
    done, kept = int(saved["done"]), len(saved["kept"])
    chain.labels[:kept], chain.concentration[:kept] = saved["kept"], saved["concentration"]
    chain.log_joint[:done], chain.clusters[:done] = saved["log_joint"], saved["clusters"]
    set_rng_state(rng, saved["random"])
    return done, saved["labels"], float(saved["gamma"])


def state_of(base: NIW, rows: Rows, labels: Index, gamma: float) -> State:
    """The state of labels [M] among K components with the laws given."""
    k, p = base.mean.shape
    member = np.zeros((k, len(labels)))
    member[labels, np.arange(len(labels))] = 1.0
    counts = member.sum(1)
    kappa = base.kappa + counts
    mean = (base.kappa[:, None] * base.mean + member @ rows.y) / kappa[:, None]
    outer = np.einsum("kp,kq->kpq", base.mean, base.mean) * base.kappa[:, None, None]
    outer = outer - np.einsum("kp,kq->kpq", mean, mean) * kappa[:, None, None]
    scale = base.scale + (member @ rows.products).reshape(k, p, p) + outer
    law = NIW(mean, kappa, base.dof + counts, 0.5 * (scale + scale.transpose(0, 2, 1)))
    return State(labels, gamma, counts, base, law)


def draw_shares(prior: Prior, state: State, rng: np.random.Generator) -> Array:
    """[J + 1] π given the labels, the novelties' first."""
    j = prior.n_known
    groups = np.append(state.counts[j:].sum(), state.counts[:j])
    return rng.dirichlet(prior.dirichlet + groups)


def draw_niw(law: NIW, rng: np.random.Generator) -> tuple[Array, Array]:
    """Means [K, p] and factors F [K, p, p] of precisions F F', one draw of each law.

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


def component_scores(log_weights: Array, mean: Array, factor: Array, y: Array) -> Array:
    """[M, K] log w_k N(y_m | μ_k, Σ_k), nats, with Σ_k⁻¹ = F_k F_k'."""
    p = y.shape[1]
    constant = log_weights + np.linalg.slogdet(factor)[1] - 0.5 * p * math.log(2 * math.pi)
    scores: Array = constant - 0.5 * squared_distances(y, mean, factor)
    return scores


def choose(scores: Array, rng: np.random.Generator) -> Index:
    """[M] components drawn with probabilities proportional to exp(scores), [M, K]."""
    shares = np.exp(scores - scores.max(1, keepdims=True))
    cumulative = np.cumsum(shares, axis=1, out=shares)
    total = cumulative[:, -1:]
    point = np.minimum(rng.random((len(scores), 1)) * total, np.nextafter(total, 0))
    return np.asarray((cumulative <= point).sum(1), dtype=np.int64)


def _log_joint(prior: Prior, state: State) -> float:
    """Of rows, known or novel, and γ, all parameters integrated out, nats."""
    j, alpha = prior.n_known, prior.dirichlet
    after = alpha + np.append(state.counts[j:].sum(), state.counts[:j])
    found = float(log_evidence(state.law, state.base, state.counts).sum())
    found += float((gammaln(after) - gammaln(alpha)).sum())
    found += float(gammaln(alpha.sum()) - gammaln(after.sum()))
    if isinstance(prior.concentration, GammaPrior):
        (shape, rate), gamma = prior.concentration, state.concentration
        found += shape * math.log(rate) - math.lgamma(shape)
        found += (shape - 1) * math.log(gamma) - rate * gamma
    return found


def _first_concentration(prior: Prior) -> float:
    gamma = prior.concentration
    return gamma.shape / gamma.rate if isinstance(gamma, GammaPrior) else gamma
