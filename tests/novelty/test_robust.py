"""Stage 1: what bad rows do to each estimate."""

import numpy as np
import pytest

from esscher.errors import ConfigError, DataError
from esscher.novelty.robust import class_estimate, mrcd


def rows(n, p, *, bad=0.0, seed=0):
    """Normal rows with unequal scales, a share of them far away."""
    rng = np.random.default_rng(seed)
    clean = rng.standard_normal((n, p)) * np.arange(1, p + 1)
    clean[: int(bad * n)] = 30 + rng.standard_normal((int(bad * n), p))
    return clean


@pytest.mark.parametrize(("method", "wide"), [("mcd", 0.35), ("mrcd", 0.35)])
def test_a_fifth_of_bad_rows_moves_the_plain_estimate_and_not_the_robust_ones(method, wide):
    x = rows(200, 3, bad=0.2)
    plain = class_estimate(x, "a", "empirical")
    robust = class_estimate(x, "a", method, random_state=0)
    assert abs(plain.location).max() > 5
    assert abs(robust.location).max() < 0.8
    assert np.diag(robust.covariance) == pytest.approx([1, 4, 9], rel=wide)
    assert robust.suspect[:40].all()
    assert robust.suspect[40:].mean() < 0.1
    assert np.diag(plain.covariance).min() > 100
    assert robust.method == method


def test_the_regularised_estimate_needs_fewer_rows_than_columns():
    x = rows(20, 40, bad=0.1, seed=3)
    location, covariance = mrcd(x, 0.75)
    assert np.linalg.eigvalsh(covariance)[0] > 0
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    # In units of its own scales the condition number is what was asked for.
    assert np.linalg.cond(covariance / scale) < 120
    assert abs(location).mean() < 8


def test_the_regularised_estimate_of_many_rows_is_the_covariance():
    x = rows(4000, 2, seed=1)
    _, covariance = mrcd(x, 1.0)
    assert covariance == pytest.approx(np.cov(x, rowvar=False), rel=0.02, abs=0.05)


@pytest.mark.parametrize("bad", [0.0, 0.1, 0.2])
def test_reweighting_leaves_no_class_too_wide_where_rows_are_many(bad):
    """Without it a fifth of bad rows makes variances 1.34 times what they are."""
    ratios = [np.diag(mrcd(rows(200, 3, bad=bad, seed=s), 0.75)[1]) / [1, 4, 9] for s in range(10)]
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_few_rows_are_not_weighed_by_distances_that_mean_little():
    ratios = [np.diag(mrcd(rows(60, 10, seed=s), 0.75)[1]) for s in range(10)]
    assert np.mean(ratios / np.arange(1, 11) ** 2) == pytest.approx(1, abs=0.1)


def test_few_rows_take_the_regularised_form_aloud():
    with pytest.warns(UserWarning, match="class 'b' has 9 rows in 3 columns.*regularised"):
        found = class_estimate(rows(9, 3), "b")
    assert found.method == "mrcd"


def test_constant_columns_get_a_ridge_aloud():
    x = rows(60, 3)
    x[:, 1] = 5.0
    with pytest.warns(UserWarning, match="rows of class 'c' lie in a plane"):
        found = class_estimate(x, "c", "empirical")
    assert np.linalg.eigvalsh(found.covariance)[0] > 0


def test_what_cannot_be_estimated():
    with pytest.raises(DataError, match="class 'lone' has one training row"):
        class_estimate(rows(1, 2), "lone")
    with pytest.raises(ConfigError, match="support must lie in"):
        class_estimate(rows(50, 2), "a", support=0.3)
    with pytest.raises(ConfigError, match="robust must be mcd, mrcd or empirical, got 'median'"):
        class_estimate(rows(50, 2), "a", "median")
