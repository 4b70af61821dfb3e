"""Statistics of evaluations against closed forms, and intervals that cover what they should."""

import math

import numpy as np
import pytest

from esscher.branch.statistics import (
    arithmetic_mean,
    geometric_mean,
    paired_ratio,
    seed_spread,
    wins,
)
from esscher.errors import DataError, ShapeError
from esscher.kit.runs.files import json_ready


def rng():
    return np.random.default_rng(0)


def test_means_are_those_of_the_textbook():
    values = np.array([1.0, 10.0, 100.0])
    assert geometric_mean(values).mean == pytest.approx(10)
    # d exp(m) = exp(m) dm, with the standard error of the logarithms.
    assert geometric_mean(values).se == pytest.approx(10 * math.log(10) / math.sqrt(3))
    assert arithmetic_mean(values).mean == 37
    assert arithmetic_mean(values).se == pytest.approx(np.std(values, ddof=1) / math.sqrt(3))
    shifted = geometric_mean(np.array([0.0, 3.0, 15.0]), shift=1.0)
    assert shifted.mean == pytest.approx((1 * 4 * 16) ** (1 / 3) - 1)
    with pytest.raises(DataError, match="above -1"):
        geometric_mean(np.array([-1.0, 2.0]), shift=1.0)
    with pytest.raises(ShapeError):
        geometric_mean(np.ones((2, 2)))


def test_wins_are_shared_by_equals_and_belong_to_those_who_finish():
    nodes = np.array([[[5.0], [7.0], [1.0]], [[5.0], [6.0], [9.0]], [[9.0], [8.0], [9.0]]])
    ended = np.ones(nodes.shape, dtype=bool)
    assert [w.mean for w in wins(nodes, ended)] == [1.5, 1.5, 0]
    ended[0, 2] = False
    assert [w.mean for w in wins(nodes, ended)] == [0.5, 2.0, 0.5]
    ended[:, 2] = False
    assert [w.mean for w in wins(nodes, ended)] == [0.5, 1.5, 0]
    assert wins(nodes, ended)[0].n == 3


def test_seeds_are_averaged_within_an_instance():
    nodes = np.array([[[1.0, 5.0]], [[2.0, 4.0]]])
    assert [w.mean for w in wins(nodes, np.ones(nodes.shape, dtype=bool))] == [0.5, 0.5]


def test_spread_over_seeds_in_percent():
    nodes = np.array([[90.0, 110.0], [10.0, np.nan], [20.0, 20.0]])
    found = seed_spread(nodes)
    assert found.n == 2
    assert found.mean == pytest.approx((100 * math.sqrt(200) / 100 + 0) / 2)
    assert seed_spread(nodes[:, :1]) is None


def test_a_ratio_is_the_geometric_mean_of_pairs():
    found = paired_ratio(np.log([2.0, 8.0, 1.0, 16.0, 4.0]), rng())
    assert found.estimate.mean == pytest.approx(4)
    assert found.low < 4 < found.high
    assert 0 < found.p < 1
    inverse = paired_ratio(-np.log([2.0, 8.0, 1.0, 16.0, 4.0]), rng())
    assert inverse.estimate.mean == pytest.approx(1 / 4)
    again = paired_ratio(np.log([2.0, 8.0, 1.0, 16.0, 4.0]), rng())
    assert again == found


@pytest.mark.parametrize(("size", "law"), [(8, "normal"), (40, "normal"), (40, "skewed")])
def test_intervals_cover_and_tests_reject_as_often_as_they_say(size, law):
    random = np.random.default_rng(3)
    covered = rejected = 0
    trials = 300
    for _ in range(trials):
        logs = random.normal(0.3, 1, size)
        if law == "skewed":
            logs = random.exponential(1, size) - 0.7
        found = paired_ratio(logs, random, resamples=1000)
        covered += found.low <= math.exp(0.3) <= found.high
        rejected += paired_ratio(logs - 0.3, random, resamples=1000).p < 0.05
    # Four standard errors of a share of 0.95 in 300 trials are 0.05.
    assert 0.90 <= covered / trials <= 1.0
    assert 0.0 <= rejected / trials <= 0.10


def test_a_clear_difference_is_seen():
    found = paired_ratio(np.random.default_rng(0).normal(-0.7, 0.5, 50), rng())
    assert found.high < 1
    assert found.p < 0.001


def test_few_instances_say_little():
    alone = paired_ratio(np.array([0.7]), rng())
    assert (alone.low, alone.high, alone.p) == (None, None, None)
    assert json_ready(alone)["se"] is None
    two = paired_ratio(np.array([0.7, 0.8]), rng())
    assert (two.low, two.high) == (None, None)
    assert two.p > 0.05
    three_alike = paired_ratio(np.array([0.7, 0.7, 0.7]), rng())
    assert three_alike.p == 0.25
    assert paired_ratio(np.zeros(5), rng()).p == 1.0
