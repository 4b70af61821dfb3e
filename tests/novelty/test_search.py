"""The search for the highest bound, on the published designs."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from esscher.errors import ConfigError, DataError
from esscher.novelty.cavi import ascend
from esscher.novelty.designs import simulate
from esscher.novelty.fit import SearchConfig, prior_of, search
from esscher.novelty.niw import NIW
from esscher.novelty.robust import class_estimate
from esscher.novelty.starts import STARTS


def published_prior(sim, *, truncation=20, trust=50.0, spread=10.0):
    """The classification study's settings."""
    p, classes = sim.train.shape[1], range(1, sim.n_known + 1)
    found = [class_estimate(sim.train[sim.labels == j], j, random_state=0) for j in classes]
    known = NIW(
        np.stack([e.location for e in found]),
        np.full(len(found), trust),
        np.full(len(found), trust + p + 1),
        np.stack([trust * e.covariance for e in found]),
    )
    novel = NIW(np.zeros((1, p)), np.array([0.1]), np.array([p + 2.0]), spread * np.eye(p)[None])
    return prior_of(known, novel, truncation, 0.1, 5.0)


def scores(sim, phi):
    novel = phi[:, sim.n_known :].sum(1) > 0.5
    right = float((novel == (sim.truth > sim.n_known)).mean())
    return adjusted_rand_score(sim.truth, phi.argmax(1)), right


@pytest.mark.parametrize("seed", range(3))
def test_small_classes_in_ten_columns_are_not_swallowed(seed):
    """From the published start they are, without moves; with moves, or our start, they are not."""
    sim = simulate(dim=10, seed=seed)
    prior = published_prior(sim)
    plain = search(prior, sim.test, SearchConfig("kmeans", 1, moves=False)).best
    moved = search(prior, sim.test, SearchConfig("kmeans", 1)).best
    ours = search(prior, sim.test, SearchConfig(n_starts=2)).best
    assert scores(sim, plain.phi)[1] < 0.95
    assert scores(sim, moved.phi)[1] >= 0.99
    assert scores(sim, ours.phi)[1] >= 0.99
    assert ours.elbo == pytest.approx(moved.elbo, abs=2.0)
    assert ours.elbo > plain.elbo + 50


def test_the_best_start_is_kept_and_all_are_told():
    sim = simulate(seed=1)
    found = search(published_prior(sim), sim.test, SearchConfig("random", 4, moves=False))
    assert len(found.ascents) == 4
    assert len({round(a.elbo, 3) for a in found.ascents}) > 1
    assert found.best.elbo == max(a.elbo for a in found.ascents)
    assert all(a.converged and a.sweeps == len(a.path) for a in found.ascents)


def test_moves_never_lose_and_a_path_never_falls():
    sim = simulate(dim=3, seed=2)
    prior = published_prior(sim)
    rng = np.random.default_rng(0)
    for name, begin in STARTS.items():
        plain = ascend(prior, sim.test, begin(prior, sim.test, rng, 0))
        moved = search(prior, sim.test, SearchConfig(name, 1, seed=3)).best
        assert moved.elbo > plain.elbo - 60, name
        assert plain.path == sorted(plain.path)


def test_processes_change_nothing():
    sim = simulate(seed=4)
    prior, config = published_prior(sim), SearchConfig(n_starts=2)
    one, two = (search(prior, sim.test, config, n_jobs=n) for n in (1, 2))
    assert np.array_equal(one.best.phi, two.best.phi)
    assert one.ascents == two.ascents


def test_fewer_rows_than_atoms():
    sim = simulate(seed=0)
    found = search(published_prior(sim), sim.test[-3:], SearchConfig(n_starts=1)).best
    assert found.phi.shape == (3, 6)


def test_what_cannot_be_searched():
    sim = simulate(seed=0)
    prior = published_prior(sim)
    with pytest.raises(DataError, match="at least one row"):
        search(prior, sim.test[:0], SearchConfig())
    with pytest.raises(DataError, match="NaN or infinite"):
        search(prior, np.full((2, 2), np.nan), SearchConfig())
    for bad in ({"start": "nowhere"}, {"n_starts": 0}, {"max_iter": 0}, {"tol": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            SearchConfig(**bad)
