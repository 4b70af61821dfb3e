"""Normal-inverse-Wishart laws against scipy, and against each other."""

import numpy as np
import pytest
from scipy import stats

from esscher.errors import ConfigError, NumericsError, ShapeError
from esscher.novelty.niw import (
    NIW,
    cholesky,
    expected_log_density,
    kl_niw,
    log_evidence,
    student_log_density,
)
from tests.novelty.problems import niw


def draws(law, n, rng):
    """Means and covariances of the first law."""
    sigma = stats.invwishart(law.dof[0], law.scale[0]).rvs(n, random_state=rng)
    sigma = np.reshape(sigma, (n, law.dim, law.dim))
    noise = rng.standard_normal((n, law.dim))
    root = np.linalg.cholesky(sigma / law.kappa[0])
    return law.mean[0] + np.einsum("npq,nq->np", root, noise), sigma


def log_density(law, mu, sigma):
    out = []
    for m, s in zip(mu, sigma, strict=True):
        a = stats.invwishart(law.dof[0], law.scale[0]).logpdf(s)
        out.append(a + stats.multivariate_normal(law.mean[0], s / law.kappa[0]).logpdf(m))
    return np.array(out)


@pytest.mark.parametrize("p", [1, 3])
def test_the_divergence_is_the_mean_log_ratio(p):
    rng = np.random.default_rng(0)
    q, p0 = niw(rng, 1, p, strong=True), niw(rng, 1, p)
    p0 = NIW(q.mean + 0.2, p0.kappa, p0.dof + 3, p0.scale)
    ratio = log_density(q, *draws(q, 4000, rng))
    rng = np.random.default_rng(0)
    niw(rng, 1, p, strong=True), niw(rng, 1, p)
    ratio = ratio - log_density(p0, *draws(q, 4000, rng))
    error = ratio.std() / np.sqrt(len(ratio))
    assert abs(ratio.mean() - kl_niw(q, p0)[0]) < 4 * error
    assert kl_niw(q, p0)[0] > 10 * error
    assert abs(kl_niw(q, q)[0]) < 1e-10


def test_the_expected_density_is_an_expectation():
    rng = np.random.default_rng(1)
    law, y = niw(rng, 1, 2, strong=True), np.array([[0.3, -1.0], [4.0, 2.0]])
    mu, sigma = draws(law, 4000, rng)
    found = np.stack(
        [
            [stats.multivariate_normal(m, s).logpdf(row) for row in y]
            for m, s in zip(mu, sigma, strict=True)
        ]
    )
    error = found.std(0) / np.sqrt(len(found))
    assert bool((abs(found.mean(0) - expected_log_density(law, y)[:, 0]) < 4 * error).all())


def test_the_predictive_is_the_t_of_scipy_and_the_mean_density():
    rng = np.random.default_rng(2)
    law, y = niw(rng, 3, 2), rng.standard_normal((5, 2))
    df = law.dof - 2 + 1
    for k in range(3):
        shape = law.scale[k] * (law.kappa[k] + 1) / (law.kappa[k] * df[k])
        wanted = stats.multivariate_t(law.mean[k], shape, df[k]).logpdf(y)
        assert student_log_density(law, y)[:, k] == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("p", [1, 2, 5])
def test_the_evidence_is_a_product_of_predictives(p):
    """Closed form against the chain rule: row after row, each under the law so far."""
    rng = np.random.default_rng(p)
    law, y = niw(rng, 1, p), rng.standard_normal((7, p))
    total, so_far = 0.0, law
    for row in y:
        total += float(student_log_density(so_far, row[None])[0, 0])
        kappa = so_far.kappa + 1
        shift = row - so_far.mean[0]
        so_far = NIW(
            so_far.mean + shift / kappa,
            kappa,
            so_far.dof + 1,
            so_far.scale + (so_far.kappa / kappa)[0] * np.outer(shift, shift),
        )
    assert float(log_evidence(so_far, law, np.array([7.0]))[0]) == pytest.approx(total, rel=1e-11)


def test_blocks_of_rows_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    law, y = niw(rng, 4, 3), rng.standard_normal((50, 3))
    whole = expected_log_density(law, y)
    monkeypatch.setattr("esscher.novelty.niw.BLOCK_BYTES", 8 * 4 * 3 * 7)
    assert np.allclose(expected_log_density(law, y), whole, rtol=1e-13)


def test_a_matrix_that_is_not_definite_gets_a_ridge_aloud():
    flat = np.array([[[1.0, 1.0], [1.0, 1.0]], [[2.0, 0.0], [0.0, 3.0]]])
    with pytest.warns(RuntimeWarning, match="not positive definite; 1e-12 was added"):
        found = cholesky(flat)
    assert np.allclose(found[1] @ found[1].T, flat[1])
    with pytest.raises(NumericsError, match="constant or copies"):
        cholesky(np.array([[[1.0, 2.0], [2.0, 1.0]]]))
    with pytest.raises(NumericsError, match="not finite"):
        cholesky(np.full((1, 2, 2), np.nan))


def test_settings_are_checked():
    eye = np.eye(2)[None]
    one = np.ones(1)
    with pytest.raises(ShapeError, match="do not fit means"):
        NIW(np.zeros((1, 2)), one, one, np.eye(2))
    with pytest.raises(ConfigError, match="dof above p - 1 = 1"):
        NIW(np.zeros((1, 2)), one, one, eye)
    with pytest.raises(ConfigError, match="dof above p \\+ 1 = 3, got 2"):
        NIW(np.zeros((1, 2)), one, 2 * one, eye).covariance()
