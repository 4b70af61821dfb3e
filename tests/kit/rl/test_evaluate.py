"""Statistics of scores against closed forms."""

import math

import numpy as np
import pytest
from scipy import stats

from esscher.errors import ConfigError, DataError
from esscher.kit.rl.evaluate import (
    bootstrap_interval,
    iqm,
    last_k_mean,
    normalised_score,
    seed_estimate,
)


@pytest.mark.parametrize("n", [4, 8, 40])
def test_the_interquartile_mean_of_multiples_of_four_is_a_trimmed_mean(n):
    scores = np.random.default_rng(n).normal(size=n)
    assert iqm(scores) == pytest.approx(stats.trim_mean(scores, 0.25))


def test_the_interquartile_mean_counts_fractions():
    assert iqm([3.0]) == 3.0
    assert iqm([1.0, 100.0]) == 50.5
    # Of five scores the middle three count, the outer two of these for three quarters each.
    assert iqm([0, 1, 2, 4, 1000]) == pytest.approx((0.75 * 1 + 2 + 0.75 * 4) / 2.5)


def test_the_bootstrap_interval_is_the_normal_one_for_a_mean():
    rng = np.random.default_rng(0)
    scores = rng.normal(5, 2, 400)
    low, high = bootstrap_interval(scores, lambda v: float(v.mean()), rng=rng, n_boot=4000)
    half = 1.96 * scores.std() / math.sqrt(400)
    assert low == pytest.approx(scores.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(scores.mean() + half, abs=0.15 * half)


def test_the_last_scores_count_not_the_best():
    assert last_k_mean([100, 1, 2, 3], k=2) == 2.5
    assert last_k_mean([1, 3], k=5) == 2


def test_scores_have_a_scale():
    assert normalised_score(-10, -20, 0) == 50
    with pytest.raises(ConfigError, match="no scale"):
        normalised_score(1, 2, 2)


def test_an_estimate_over_seeds():
    found = seed_estimate([1.0, 2.0, 3.0])
    assert (found.mean, found.se, found.n) == (2.0, pytest.approx(1 / math.sqrt(3)), 3)
    assert math.isinf(seed_estimate([1.0]).se)


@pytest.mark.parametrize("scores", [[], [math.nan], [1.0, math.inf]])
def test_scores_that_are_none_are_refused(scores):
    for statistic in (iqm, seed_estimate, last_k_mean):
        with pytest.raises(DataError):
            statistic(scores)
    with pytest.raises(ConfigError):
        last_k_mean([1.0], k=0)
