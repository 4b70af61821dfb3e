"""Stage 2 in one table: ways to find the posterior of a batch, all with the same outcome."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from esscher.novelty.by_blocks import ROWS, state_from_arrays, state_to_arrays
from esscher.novelty.by_blocks import State as StreamState
from esscher.novelty.cavi import Fit, responsibilities
from esscher.novelty.fit import Ascent, SearchConfig, Tried, search, truncated
from esscher.novelty.gibbs import blocked_gibbs
from esscher.novelty.keeping import Keeper
from esscher.novelty.model import GammaPrior, Posterior, Prior
from esscher.novelty.naming import Rule
from esscher.novelty.niw import Array, Index
from esscher.novelty.partition import min_vi_partition, posterior_similarity
from esscher.novelty.predictive import Mixture, mixture_of, mixture_of_draws
from esscher.novelty.sampling import Chain, Rows, state_of
from esscher.novelty.slice_sampler import slice_sampler
from esscher.novelty.snapshots import fit_of, tree_of
from esscher.novelty.starts import STARTS
from esscher.novelty.svi import StochasticConfig, stochastic_fit

__all__ = ["INFERENCES", "Found", "Inference", "Task", "Trace", "found_by_ascent"]

Inference = Literal["vb", "svi", "gibbs", "slice"]


@dataclass(frozen=True)
class Task:
    """A batch and how its posterior is to be found.

    Attributes:
        prior: the model.
        rows: [M, p].
        config: of ascents; chains take its start and seed.
        n_samples: draws of a chain.
        burn_in: sweeps before them.
        rule: when a row counts as novel.
        n_jobs: processes at once.
        keeper: hears of finished pieces.
    """

    prior: Prior
    rows: Array
    config: SearchConfig
    n_samples: int
    burn_in: int
    rule: Rule
    n_jobs: int | None = None
    keeper: Keeper | None = None


class Trace(NamedTuple):
    """What a chain did.

    Attributes:
        log_joint: [B + S] log p(y, labels, γ) after every sweep, nats.
        clusters: [B + S] novel clusters after every sweep.
        burn_in: B.
        scale_reduction: of the two, between both halves of the kept sweeps; near 1 where settled.
    """

    log_joint: Array
    clusters: Array
    burn_in: int
    scale_reduction: float


@dataclass(frozen=True)
class Found:
    """A posterior of a batch.

    Attributes:
        posterior: variational factors; of a chain the conjugate posterior of its partition.
        shares: [M, C] probability of each row's components, the J known classes first.
        predictive: of further rows.
        n_iter: sweeps.
        converged: whether it stood still at its end.
        path: the bound after every sweep; None where there is none.
        ascents: one record per start.
        trace: of a chain.
    """

    posterior: Posterior
    shares: Array
    predictive: Mixture
    n_iter: int
    converged: bool
    path: list[float] | None = None
    ascents: list[Ascent] = field(default_factory=list)
    trace: Trace | None = None


def found_by_ascent(prior: Prior, fit: Fit, ascents: list[Ascent]) -> Found:
    """The outcome of variational inference."""
    return Found(
        fit.posterior,
        fit.phi,
        mixture_of(prior, fit.posterior),
        len(fit.path),
        fit.converged,
        fit.path,
        ascents,
    )


def _ascended(task: Task) -> Found:
    """Coordinate ascent from several starts, the highest bound kept."""
    keeper, so_far = task.keeper, None

    def on_start(tried: Tried) -> None:
        assert keeper is not None
        last = tried.ascents[-1]
        numbers = {"bound": tried.best.elbo, "clusters": last.clusters, "sweeps": last.sweeps}
        done, total = len(tried.ascents), task.config.n_starts
        keeper.keep(done, total, lambda: _tree_of(tried), numbers)

    if keeper is not None and (saved := keeper.recall()) is not None:
        so_far = Tried(fit_of(saved["best"]), [Ascent(*a) for a in saved["ascents"]])
    tried = search(
        task.prior,
        task.rows,
        task.config,
        n_jobs=task.n_jobs,
        so_far=so_far,
        on_start=None if keeper is None else on_start,
    )
    return found_by_ascent(task.prior, tried.best, tried.ascents)


def _tree_of(tried: Tried) -> Mapping[str, Any]:
    return {"best": tree_of(tried.best), "ascents": [tuple(a) for a in tried.ascents]}


def _streamed(task: Task) -> Found:
    """A search on a subsample, stochastic steps, exact sweeps by blocks."""
    keeper, search_config = task.keeper, task.config
    config = StochasticConfig(
        sweeps=search_config.max_iter,
        tol=search_config.tol,
        search=search_config,
        seed=search_config.seed,
    )
    most = 1 + config.epochs * math.ceil(len(task.rows) / config.batch) + config.sweeps

    def on_state(state: StreamState) -> None:
        if keeper is not None:
            numbers = {"bound": state.path[-1]} if state.path else {"steps": state.steps}
            done = 1 + state.steps + len(state.path)
            keeper.keep(done, most, lambda: state_to_arrays(state), numbers)

    saved = None if keeper is None else keeper.recall()
    state = None if saved is None else state_from_arrays(dict(saved))
    fit = stochastic_fit(task.prior, task.rows, config, state=state, on_state=on_state)
    prior = truncated(task.prior, len(task.rows))
    phi = np.concatenate(
        [
            responsibilities(fit.posterior, task.rows[start : start + ROWS])[0]
            for start in range(0, len(task.rows), ROWS)
        ]
    )
    own = np.unique(phi.argmax(1))
    clusters = int((own >= prior.n_known).sum())
    ascent = Ascent(0, fit.elbo, len(fit.path), fit.converged, clusters, fit.path)
    ended = Fit(fit.posterior, phi, fit.path, fit.converged)
    return found_by_ascent(prior, ended, [ascent])


def _sampled(task: Task, sampler: Callable[..., Chain]) -> Found:
    """A chain from the first start, summed up.

    P(novel) is the share of the draws, the label what most draws say. Rows voted novel are
    clustered by the partition of least expected variation of information; their novel share is
    their cluster's, and that of other rows stands in a last column of its own.
    """
    prior = truncated(task.prior, len(task.rows))
    rng = np.random.default_rng([task.config.seed, 0])
    begin = STARTS[task.config.start](prior, task.rows, rng, 0).argmax(1)
    chain = sampler(
        prior,
        task.rows,
        np.asarray(begin, dtype=np.int64),
        sweeps=task.n_samples,
        burn_in=task.burn_in,
        rng=rng,
        keeper=task.keeper,
    )
    known = chain.shares(prior.n_known)
    novel = (chain.labels >= prior.n_known).mean(0)
    clusters = _clusters(chain, _voted(known, novel, task.rule))
    reduction = chain.scale_reduction()
    return Found(
        _summary(prior, task.rows, known, clusters, float(chain.concentration.mean())),
        _shares(known, novel, clusters),
        mixture_of_draws(prior, task.rows, chain, clusters),
        len(chain.log_joint),
        chain.settled,
        trace=Trace(chain.log_joint, chain.clusters, chain.burn_in, reduction),
    )


def _voted(known: Array, novel: Array, rule: Rule) -> Index:
    """Rows that are novel."""
    most = 0.5 if rule == "summed" else known.max(1)
    return np.flatnonzero(novel > most)


def _clusters(chain: Chain, novel: Index) -> Index:
    """[M] cluster of each novel row, -1 for the others; larger clusters first."""
    found = np.full(chain.labels.shape[1], -1, dtype=np.int64)
    if len(novel):
        parts = min_vi_partition(posterior_similarity(chain.labels[:, novel]))
        order = np.argsort(-np.bincount(parts), kind="stable")
        found[novel] = np.argsort(order)[parts]
    return found


def _shares(known: Array, novel: Array, clusters: Index) -> Array:
    """[M, J + C + 1], the last for the novel share of rows without a cluster."""
    (m, j), last = known.shape, int(clusters.max(initial=-1)) + 1
    out = np.concatenate([known, np.zeros((m, last + 1))], 1)
    out[np.arange(m), j + np.where(clusters < 0, last, clusters)] = novel
    return out


def _summary(prior: Prior, y: Array, known: Array, clusters: Index, gamma: float) -> Posterior:
    """The conjugate posterior where every row is of its class or cluster; a last atom is empty."""
    j = prior.n_known
    labels = np.where(clusters < 0, known.argmax(1), j + clusters).astype(np.int64)
    k = j + int(clusters.max(initial=-1)) + 2
    index = np.append(np.arange(j), np.full(k - j, len(prior.components) - 1))
    state = state_of(prior.components.take(index), Rows.of(y), labels, gamma)
    counts = state.counts[j:]
    later = np.cumsum(counts[::-1])[::-1]
    sticks = np.stack([1.0 + counts[:-1], gamma + later[1:]], 1)
    dirichlet = prior.dirichlet + np.append(counts.sum(), state.counts[:j])
    learnt = GammaPrior(gamma, 1.0) if isinstance(prior.concentration, GammaPrior) else None
    return Posterior(state.law, j, dirichlet, sticks, learnt)


INFERENCES: Mapping[Inference, Callable[[Task], Found]] = MappingProxyType(
    {
        "vb": _ascended,
        "svi": _streamed,
        "gibbs": lambda task: _sampled(task, blocked_gibbs),
        "slice": lambda task: _sampled(task, slice_sampler),
    }
)
"""name -> task -> outcome."""
