"""The slice sampler against sums over all labellings, its own prior and the truncated sampler."""

import itertools

import numpy as np
import pytest
from scipy.special import gammaln, logsumexp

from esscher.errors import ConfigError
from esscher.novelty.cavi import component_posterior
from esscher.novelty.designs import simulate
from esscher.novelty.gibbs import blocked_gibbs
from esscher.novelty.model import GammaPrior
from esscher.novelty.niw import log_evidence
from esscher.novelty.sampling import Rows, draw_niw
from esscher.novelty.slice_sampler import (
    SLICE,
    active_components,
    log_levels,
    slice_sampler,
    slots_of,
)
from esscher.novelty.starts import STARTS
from tests.novelty.problems import agreeing, overlapping, rows_of
from tests.novelty.test_partition import partitions
from tests.novelty.test_search import published_prior


@pytest.mark.parametrize(("j", "kappa"), [(1, 0.25), (3, 0.25), (2, 0.7)])
def test_levels_sum_to_one_and_every_active_component_is_counted(j, kappa):
    levels = np.exp(log_levels(j, 400, kappa))
    assert levels.sum() == pytest.approx(1, abs=1e-9)
    assert levels[: j + 1] == pytest.approx((1 - kappa) / (j + 1))
    rng = np.random.default_rng(0)
    for u in rng.random(200) ** 6 * levels[0]:
        assert active_components(j, float(np.log(u)), kappa) == max(j + 1, (levels > u).sum())
    with pytest.raises(ConfigError, match="kappa must lie between 0 and 1"):
        log_levels(1, 3, 1.0)


def labellings(m, j):
    """Every labelling of m rows by j classes and a partition of the others, as components."""
    for calls in itertools.product(range(j + 1), repeat=m):
        known = np.array(calls)
        rows = np.flatnonzero(known == j)
        for parts in partitions(len(rows)) if len(rows) else [np.empty(0, int)]:
            labels = known.copy()
            labels[rows] = j + parts
            yield labels


def log_posteriors(prior, y, labels, gamma):
    """log p(y, partition) for each labelling, the sticks integrated out: a Chinese restaurant."""
    j, found = prior.n_known, []
    for one in labels:
        k = max(int(one.max()) + 1, j)
        phi = np.eye(k)[one]
        counts = phi.sum(0)
        after = prior.dirichlet + np.append(counts[j:].sum(), counts[:j])
        index = np.append(np.arange(j), np.full(k - j, j))
        base = prior.components.take(index)
        law = component_posterior(base, y, phi, counts)
        total = gammaln(after).sum() + log_evidence(law, base, counts).sum()
        total += (k - j) * np.log(gamma) + gammaln(counts[j:]).sum()
        found.append(total + gammaln(gamma) - gammaln(gamma + counts[j:].sum()))
    return np.array(found)


def spread(prior, rng, m):
    return 2.5 * rng.standard_normal((m, 2)) + prior.components.mean[0]


@pytest.mark.parametrize(("j", "gamma"), [(2, 2.5), pytest.param(1, 0.7, marks=pytest.mark.slow)])
def test_draws_follow_the_posterior_over_all_labellings(j, gamma):
    rng = np.random.default_rng(j)
    prior = overlapping(gamma, n_known=j)
    y = spread(prior, rng, 5)
    labels = list(labellings(5, j))
    log_p = log_posteriors(prior, y, labels, gamma)
    p = np.exp(log_p - logsumexp(log_p))
    labels = np.array(labels)
    novel = p @ (labels >= j)
    clusters = np.array([len(set(one[one >= j])) for one in labels])
    together = p @ ((labels[:, [0]] == labels[:, 1:]) & (labels[:, [0]] >= j))
    assert novel.min() > 0.02
    assert novel.max() < 0.98

    chain = slice_sampler(prior, y, np.zeros(5, dtype=int), sweeps=4_800, burn_in=100, rng=rng)
    found = chain.labels
    size = len(found) // 60

    def near(values, wanted):
        batches = values.reshape(60, size, -1).mean(1)
        se = batches.std(0, ddof=1) / np.sqrt(60)
        assert (abs(batches.mean(0) - wanted) < 4 * se).all(), (batches.mean(0), wanted, se)
        assert (se < 0.08).all()

    near((found >= j).astype(float), novel)
    near(chain.clusters[100:].astype(float), p @ clusters)
    near(((found[:, [0]] == found[:, 1:]) & (found[:, [0]] >= j)).astype(float), together)


def test_the_log_joint_is_that_of_the_labelling():
    rng = np.random.default_rng(3)
    prior = overlapping(1.3)
    y = spread(prior, rng, 5)
    chain = slice_sampler(prior, y, np.zeros(5, dtype=int), sweeps=20, burn_in=0, rng=rng)
    for labels, found in zip(chain.labels.astype(int), chain.log_joint, strict=True):
        _, parts = np.unique(labels[labels >= 1], return_inverse=True)
        one = labels.copy()
        one[labels >= 1] = 1 + parts
        constant = gammaln(prior.dirichlet.sum()) - gammaln(prior.dirichlet).sum()
        constant -= gammaln(prior.dirichlet.sum() + 5)
        wanted = log_posteriors(prior, y, [one], 1.3)[0] + constant
        assert found == pytest.approx(wanted, rel=1e-9)


def test_places_are_those_of_atoms_drawn_in_order():
    """Rows drawn from GEM sticks: the places of their clusters given how they fall."""
    rng = np.random.default_rng(4)
    gamma, wanted, found = 1.7, {}, {}
    for _ in range(60_000):
        sticks = rng.beta(1, gamma, 40)
        weights = sticks * np.append(1, np.cumprod(1 - sticks)[:-1])
        rows = np.minimum((np.cumsum(weights) <= rng.random((3, 1))).sum(1), 39)
        if rows[0] == rows[1] != rows[2]:
            key = (int(rows[0]), int(rows[2]))
            wanted[key] = wanted.get(key, 0) + 1
    n = sum(wanted.values())
    for _ in range(n):
        key = tuple(slots_of(np.array([2.0, 1.0]), gamma, rng).tolist())
        found[key] = found.get(key, 0) + 1
    for key, count in wanted.items():
        share = count / n
        assert abs(share - found.get(key, 0) / n) < 5 * np.sqrt(2 * share / n) + 1e-3, key


@pytest.mark.parametrize("gamma", [GammaPrior(3.0, 2.0), pytest.param(1.5, marks=pytest.mark.slow)])
def test_the_sampler_and_the_prior_agree_on_their_joint_law(gamma):
    """Geweke (2004): labels and rows from the prior, against sweeps that draw both in turn."""
    rng = np.random.default_rng(1)
    prior = overlapping(gamma)
    j, m = prior.n_known, 5

    def statistics(state, y):
        counts = state.counts[j:]
        return [
            (state.labels == 0).mean(),
            (state.labels == 0).mean() ** 2,
            (counts > 0).sum(),
            (counts > 0).sum() ** 2,
            (counts**2).sum(),
            np.log(state.concentration),
            np.log(state.concentration) * (counts > 0).sum(),
            np.log(state.concentration) * counts.sum(),
            y[0, 0],
            (y[:, 0] * y[:, 1]).mean(),
            np.log1p(np.square(y).sum(1)).mean(),
            ((state.labels == 0) * y[:, 0]).sum(),
        ]

    def from_prior():
        one = gamma if isinstance(gamma, float) else float(rng.gamma(gamma[0]) / gamma[1])
        shares = rng.dirichlet(prior.dirichlet)
        sticks = rng.beta(1, one, 200)
        omega = sticks * np.append(1, np.cumprod(1 - sticks)[:-1])
        labels = np.zeros(m, dtype=int)
        novel = rng.random(m) < shares[0]
        labels[novel] = j + np.searchsorted(np.cumsum(omega), rng.random(int(novel.sum())))
        return one, labels, drawn_rows(labels)

    def drawn_rows(labels):
        base = SLICE.place(prior, Rows.of(np.zeros((m, 2))), labels, 1.0).base
        mean, factor = draw_niw(base, rng)
        return rows_of(mean[labels], factor[labels], rng)

    n = 3_600
    direct = []
    for _ in range(n):
        one, labels, y = from_prior()
        direct.append(statistics(SLICE.place(prior, Rows.of(y), labels, one), y))
    one, labels, y = from_prior()
    sweeps = []
    for _ in range(n):
        state = SLICE.sweep(prior, Rows.of(y), SLICE.place(prior, Rows.of(y), labels, one), rng)
        labels, one = state.labels, state.concentration
        # Rows given labels: the parameters are drawn from their posterior, and then forgotten.
        mean, factor = draw_niw(state.law, rng)
        y = rows_of(mean[labels], factor[labels], rng)
        sweeps.append(statistics(SLICE.place(prior, Rows.of(y), labels, one), y))
    agreeing(direct, sweeps)


def test_both_samplers_call_the_same_rows_novel():
    sim = simulate(factor=0.5, seed=0)
    prior = published_prior(sim)
    begin = STARTS["random"](prior, sim.test, np.random.default_rng(1), 0).argmax(1)
    a, b = (
        sampler(prior, sim.test, begin, sweeps=300, burn_in=300, rng=np.random.default_rng(0))
        for sampler in (blocked_gibbs, slice_sampler)
    )
    novel = [(chain.labels >= 3).mean(0) for chain in (a, b)]
    assert ((novel[0] > 0.5) == (novel[1] > 0.5)).mean() >= 0.99
    assert abs(novel[0] - novel[1]).mean() < 0.02
    assert ((novel[1] > 0.5) == (sim.truth > 3)).mean() >= 0.99


@pytest.mark.slow
def test_both_samplers_find_as_many_clusters():
    """Sticks cut off far behind the data against none: the posterior of their number."""
    sim = simulate(factor=0.3, seed=0)
    prior = published_prior(sim, truncation=60)
    found = []
    for sampler in (blocked_gibbs, slice_sampler):
        begin = STARTS["outlying"](prior, sim.test, np.random.default_rng(1), 0).argmax(1)
        rng = np.random.default_rng(2)
        chain = sampler(prior, sim.test, begin, sweeps=6_000, burn_in=500, rng=rng)
        batches = chain.clusters[500:].reshape(20, 300).mean(1)
        found.append((batches.mean(), batches.std(ddof=1) / np.sqrt(20)))
    (a, se_a), (b, se_b) = found
    assert abs(a - b) < 4 * np.hypot(se_a, se_b), found
    assert max(se_a, se_b) < 0.1


def test_one_seed_one_chain_and_many_atoms_if_the_prior_wants_them():
    prior = overlapping(30.0)
    y = np.random.default_rng(0).standard_normal((30, 2)) * 6
    first, second = (
        slice_sampler(prior, y, 1 + np.arange(30), sweeps=20, burn_in=0,
                      rng=np.random.default_rng(4))
        for _ in range(2)
    )  # fmt: skip
    assert np.array_equal(first.labels, second.labels)
    assert first.clusters.max() > prior.truncation
