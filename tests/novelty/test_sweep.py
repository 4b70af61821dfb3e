"""Features and sums against the formulae they replace."""

import numpy as np
import pytest

from esscher.novelty import sweep
from esscher.novelty.cavi import (
    ascend,
    bound,
    bound_of_sums,
    globals_of,
    globals_of_sums,
    responsibilities,
)
from esscher.novelty.designs import simulate
from esscher.novelty.fit import prior_of
from esscher.novelty.moments import (
    coefficients,
    features,
    n_features,
    translated,
)
from esscher.novelty.niw import NIW, expected_log_density
from esscher.novelty.sweep import Batch, expect, sums_of
from tests.novelty.problems import niw, problem, start
from tests.novelty.test_search import published_prior


def same(one, two, tolerance=1e-9):
    assert one.dirichlet == pytest.approx(two.dirichlet, rel=tolerance)
    assert one.sticks == pytest.approx(two.sticks, rel=tolerance)
    for part in ("mean", "kappa", "dof", "scale"):
        a, b = getattr(one.components, part), getattr(two.components, part)
        assert np.allclose(a, b, rtol=tolerance, atol=tolerance), part


@pytest.mark.parametrize("p", [1, 2, 5])
def test_an_expected_density_is_linear_in_features(p):
    rng = np.random.default_rng(p)
    law, y, origin = niw(rng, 4, p), 3 * rng.standard_normal((30, p)), rng.standard_normal(p)
    table = features(y - origin)
    assert table.shape == (n_features(p), 30)
    found = coefficients(law, origin) @ table
    assert pytest.approx(expected_log_density(law, y), rel=1e-9, abs=1e-9) == found.T
    own = np.stack([coefficients(law, law.mean)[k] @ features(y - law.mean[k]) for k in range(4)])
    assert own == pytest.approx(found, rel=1e-9, abs=1e-9)


def test_sums_about_another_origin():
    rng = np.random.default_rng(0)
    y, phi = rng.standard_normal((40, 3)), rng.random((2, 40))
    origin, to = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    about = [np.stack([phi[k] @ features(y - o[k]).T for k in range(2)]) for o in (origin, to)]
    assert translated(about[0], origin, to) == pytest.approx(about[1], rel=1e-10)
    assert translated(about[0], origin, origin) is about[0]


@pytest.mark.parametrize("seed", range(12))
def test_a_look_is_the_two_half_steps(seed):
    prior, y, rng = problem(seed)
    q = globals_of(prior, y, start(prior, y, rng))
    batch, table = Batch(y), np.empty((len(prior.components), len(y)))
    sums = expect(prior, q, batch, out=table)
    phi, _ = responsibilities(q, y)
    assert pytest.approx(phi, abs=1e-11) == table.T
    following = globals_of_sums(prior, sums, q)
    same(following, globals_of(prior, y, phi, q))
    assert bound_of_sums(prior, following, sums) == pytest.approx(
        bound(prior, following, y, phi), rel=1e-9
    )
    given = sums_of(batch, table)
    assert given.moments == pytest.approx(sums.moments, abs=1e-8)
    assert given.entropy == pytest.approx(sums.entropy, abs=1e-9)


def test_blocks_change_nothing(monkeypatch):
    prior, y, rng = problem(3, rows=1500)
    q = globals_of(prior, y, start(prior, y, rng))
    whole = expect(prior, q, Batch(y))
    monkeypatch.setattr(sweep, "BLOCK_BYTES", 1)
    monkeypatch.setattr(sweep, "KEPT_BYTES", 1)
    parts = Batch(y)
    assert len(list(parts.blocks())) == 3
    found = expect(prior, q, parts)
    assert found.moments == pytest.approx(whole.moments, rel=1e-10, abs=1e-8)
    assert found.entropy == pytest.approx(whole.entropy)


def test_atoms_that_hold_nothing_are_scored_as_one_and_share():
    """Beside the same model with atoms that differ by nothing that matters, scored one by one."""
    sim = simulate(dim=3, factor=0.2, seed=0)
    prior = published_prior(sim, truncation=6)
    phi = np.zeros((len(sim.test), 9))
    phi[np.arange(len(sim.test)), np.minimum(sim.truth - 1, 4)] = 1.0
    q = globals_of(prior, sim.test, phi)
    table = np.empty((9, len(sim.test)))
    sums = expect(prior, q, Batch(sim.test), out=table)
    wanted, _ = responsibilities(q, sim.test)
    assert prior.atoms_alike
    assert pytest.approx(wanted, abs=1e-12) == table.T
    assert (wanted[:, 5:] > 0).any()
    assert sums.counts == pytest.approx(wanted.sum(0), rel=1e-8)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum(wanted * np.log(wanted))
    assert sums.entropy == pytest.approx(entropy, rel=1e-9)


def test_far_rows_and_narrow_clusters_lose_no_digits():
    """Two clusters 10⁷ of their own widths apart: products about one origin would be noise."""
    rng = np.random.default_rng(1)
    y = 1e-2 * rng.standard_normal((80, 2)) + np.repeat([[-1e5, 0.0], [1e5, 3.0]], 40, 0)
    known = NIW(np.array([[-1e5, 0.0]]), np.ones(1), np.full(1, 5.0), 1e-4 * np.eye(2)[None])
    novel = NIW(np.zeros((1, 2)), np.full(1, 1e-9), np.full(1, 4.0), 1e-4 * np.eye(2)[None])
    prior = prior_of(known, novel, 3, 0.5, 1.0)
    phi = np.zeros((80, 4))
    phi[:40, 0] = phi[40:, 1] = 1.0
    fit = ascend(prior, y, phi, tol=1e-12)
    assert fit.path == pytest.approx(sorted(fit.path), rel=1e-9)
    assert fit.elbo == pytest.approx(bound(prior, fit.posterior, y, fit.phi), rel=1e-8)
    exact = globals_of(prior, y, fit.phi)
    same(fit.posterior, exact, 1e-6)


def test_over_relaxed_sweeps_reach_the_same_place_sooner():
    sim = simulate(seed=0)
    prior = published_prior(sim)
    rng = np.random.default_rng(0)
    phi = np.eye(23)[rng.integers(3, 23, size=len(sim.test))]
    fit = ascend(prior, sim.test, phi)
    q, path = globals_of(prior, sim.test, phi), [-np.inf, -1e300]
    while path[-1] - path[-2] >= 1e-7 * len(sim.test):
        plain, _ = responsibilities(q, sim.test)
        q = globals_of(prior, sim.test, plain, q)
        path.append(bound(prior, q, sim.test, plain))
    assert fit.converged
    assert all(b >= a for a, b in zip(fit.path, fit.path[1:-1], strict=False))
    assert len(fit.path) < 0.8 * len(path)
    assert fit.elbo > path[-1] - 2.0
