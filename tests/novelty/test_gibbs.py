"""The sampler against its own prior, and variational inference against the sampler."""

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.special import betaln, logsumexp

from esscher.errors import ConfigError
from esscher.novelty.cavi import component_posterior
from esscher.novelty.designs import simulate
from esscher.novelty.fit import SearchConfig, prior_of, search
from esscher.novelty.gibbs import GIBBS, blocked_gibbs, draw_labels, draw_parameters, exchanged
from esscher.novelty.model import GammaPrior
from esscher.novelty.niw import NIW
from esscher.novelty.sampling import Rows, component_scores, draw_niw
from esscher.novelty.starts import STARTS
from tests.novelty.problems import agreeing, niw, overlapping, rows_of
from tests.novelty.test_search import published_prior


def test_draws_of_a_law_have_its_moments():
    rng = np.random.default_rng(0)
    one = niw(rng, 1, 3, strong=True)
    law = one.take(np.zeros(20_000, dtype=int))
    mean, factor = draw_niw(law, rng)
    sigma = np.linalg.inv(factor @ factor.transpose(0, 2, 1))
    assert sigma.mean(0) == pytest.approx(one.covariance()[0], rel=0.05, abs=0.02)
    spread = np.cov(mean.T)
    assert spread == pytest.approx(one.covariance()[0] / one.kappa[0], rel=0.08, abs=0.01)
    assert mean.mean(0) == pytest.approx(one.mean[0], abs=0.02)


def statistics(drawn, labels, y):
    """Numbers that every factor has a part in."""
    det = 2 * np.log(np.abs(np.linalg.det(drawn.factor)))
    return [
        drawn.weights[0],
        drawn.weights[0] ** 2,
        drawn.sticks[0],
        np.log(drawn.concentration),
        drawn.mean[0, 0],
        drawn.mean[-1, 1],
        drawn.mean[1, 0] ** 2,
        det[0],
        det[-1],
        (labels == 0).mean(),
        (labels == 2).mean(),
        y[0, 0],
        (y[:, 0] * y[:, 1]).mean(),
    ]


def placed(prior, y, labels, gamma):
    return GIBBS.place(prior, Rows.of(y), labels, gamma)


@pytest.mark.parametrize("gamma", [1.5, GammaPrior(3.0, 2.0)], ids=["known", "learnt"])
def test_the_sampler_and_the_prior_agree_on_their_joint_law(gamma):
    """Geweke (2004): parameters then rows, against sweeps that draw rows and labels in turn."""
    rng = np.random.default_rng(1)
    prior = overlapping(gamma)
    empty, nobody = np.empty((0, 2)), np.empty(0, dtype=np.int64)

    def from_prior():
        mean_gamma = gamma if isinstance(gamma, float) else float(rng.gamma(gamma[0]) / gamma[1])
        fixed = overlapping(mean_gamma)
        drawn = draw_parameters(fixed, placed(fixed, empty, nobody, mean_gamma), rng)
        labels = rng.choice(4, size=5, p=drawn.weights / drawn.weights.sum())
        return drawn, labels, rows_of(drawn.mean[labels], drawn.factor[labels], rng)

    n = 7_200
    direct = [statistics(*from_prior()) for _ in range(n)]
    drawn, labels, y = from_prior()
    sweeps = []
    for _ in range(n):
        drawn = draw_parameters(prior, placed(prior, y, labels, drawn.concentration), rng)
        labels = exchanged(prior, draw_labels(drawn, y, rng), drawn.concentration, rng)
        y = rows_of(drawn.mean[labels], drawn.factor[labels], rng)
        # Weights and sticks follow labels one step late; all of these are the state.
        sweeps.append(statistics(drawn, labels, y))
    agreeing(direct, sweeps)


def test_atoms_take_places_as_the_sticks_want_them():
    """Exchanges alone, against the law of all orders of the same clusters."""
    rng = np.random.default_rng(6)
    prior = overlapping(0.8, truncation=4)
    sizes, labels = (5, 2, 1, 0), 1 + np.repeat([0, 1, 2], [5, 2, 1])
    orders = list(itertools.permutations(range(4)))
    log_p = []
    for order in orders:
        counts = np.array([sizes[k] for k in order], float)
        later = np.cumsum(counts[::-1])[::-1]
        log_p.append(betaln(1 + counts[:-1], 0.8 + later[1:]).sum())
    wanted = np.exp(log_p - logsumexp(log_p))
    seen = dict.fromkeys(orders, 0)
    for _ in range(20_000):
        labels = exchanged(prior, labels, 0.8, rng)
        at = np.bincount(labels, minlength=5)[1:].tolist()
        seen[tuple(sizes.index(n) for n in at)] += 1
    assert np.array(list(seen.values())) / 20_000 == pytest.approx(wanted, abs=0.015)
    assert wanted.max() < 0.5


def test_labels_follow_their_probabilities():
    rng = np.random.default_rng(2)
    known, novel = niw(rng, 1, 2, strong=True), niw(rng, 1, 2)
    prior = prior_of(known, novel, 2, 1.0, 1.0)
    y = rng.standard_normal((1, 2))
    drawn = draw_parameters(prior, placed(prior, y, np.zeros(1, dtype=int), 1.0), rng)
    dense = [
        w * stats.multivariate_normal(m, np.linalg.inv(f @ f.T)).pdf(y[0])
        for w, m, f in zip(drawn.weights, drawn.mean, drawn.factor, strict=True)
    ]
    many = np.repeat(y, 20_000, 0)
    labels = draw_labels(drawn, many, rng)
    shares = np.bincount(labels, minlength=3) / 20_000
    assert shares == pytest.approx(np.array(dense) / sum(dense), abs=0.02)
    scores = component_scores(np.log(drawn.weights), drawn.mean, drawn.factor, y)
    assert np.exp(scores[0]) == pytest.approx(dense)


def test_known_labels_give_the_conjugate_posterior():
    rng = np.random.default_rng(3)
    prior = prior_of(niw(rng, 1, 2, strong=True), niw(rng, 1, 2), 1, 1.0, 1.0)
    y = rng.standard_normal((40, 2)) + 3
    labels = np.repeat([0, 1], 20)
    wanted = component_posterior(prior.components, y, np.eye(2)[labels], np.array([20.0, 20.0]))
    means = np.array(
        [draw_parameters(prior, placed(prior, y, labels, 1.0), rng).mean for _ in range(3000)]
    )
    error = means.std(0) / np.sqrt(3000)
    assert (abs(means.mean(0) - wanted.mean) < 4.5 * error).all()
    assert isinstance(wanted, NIW)


def test_variational_labels_are_those_of_the_sampler():
    sim = simulate(factor=0.5, seed=0)
    prior = published_prior(sim)
    fit = search(prior, sim.test, SearchConfig(n_starts=2)).best
    rng = np.random.default_rng(0)
    begin = STARTS["random"](prior, sim.test, rng, 0).argmax(1)
    chain = blocked_gibbs(prior, sim.test, begin, sweeps=600, burn_in=400, rng=rng)
    novel = chain.shares(len(prior.components))[:, 3:].sum(1) > 0.5
    assert ((fit.phi[:, 3:].sum(1) > 0.5) == novel).mean() >= 0.99
    assert (novel == (sim.truth > 3)).mean() >= 0.99
    assert chain.log_joint[-300:].std() < 50
    assert chain.burn_in == 400


def test_one_seed_one_chain():
    sim = simulate(factor=0.1, seed=0)
    prior = published_prior(sim)
    first, second = (
        blocked_gibbs(prior, sim.test, np.zeros(len(sim.test), dtype=np.int64), sweeps=5, burn_in=2,
                      rng=np.random.default_rng(4))
        for _ in range(2)
    )  # fmt: skip
    assert np.array_equal(first.labels, second.labels)
    assert first.shares(23).sum(1) == pytest.approx(np.ones(len(sim.test)))
    with pytest.raises(ConfigError, match="sweeps must be at least 1"):
        blocked_gibbs(prior, sim.test, first.labels[0], sweeps=0, burn_in=0,
                      rng=np.random.default_rng(0))  # fmt: skip
