"""The second judge: its values, and what best-of-n makes of it."""

import math

import pytest
import torch

from esscher.align.gold import best_of_n_curve, gold_values
from esscher.core import Target
from esscher.core.best_of_n import best_of_n_law
from esscher.core.evidence import Likelihood
from esscher.core.law import Table
from esscher.errors import ConfigError, DataError
from tests.align import worlds


def length(items):
    return [float(len(s)) for s in items]


def test_the_curve_is_that_of_the_exact_law():
    target = worlds.toy()
    rows = best_of_n_curve(target, length, 4000, seed=3)
    assert [row["n"] for row in rows] == [1, 2, 4, 8, 16, 32, 64, 128]
    x, table = worlds.outcomes(), Table(worlds.log_prior())
    judged = torch.tensor(length(worlds.prior().items(x)), dtype=torch.float64)
    for row in rows[:5]:
        best = best_of_n_law(table, target.log_weight(x), row["n"])
        kl, gold = best.kl(table), float(best.probs @ judged)
        assert row["kl"]["mean"] == pytest.approx(kl, abs=4 * row["kl"]["se"] + 0.03)
        assert abs(row["gold"]["mean"] - gold) < 4 * row["gold"]["se"]
    assert rows[0]["kl"]["mean"] == pytest.approx(0.0, abs=1e-12)


def test_a_judge_that_is_the_evidence_only_rises():
    target = worlds.toy()
    rows = best_of_n_curve(target, worlds.toy_reward, 1000)
    means = [row["gold"]["mean"] for row in rows]
    assert means == sorted(means)


def test_a_judge_opposed_to_the_evidence_falls():
    target = Target(worlds.prior(), Likelihood(length))
    rows = best_of_n_curve(target, lambda items: [-v for v in length(items)], 1000)
    means = [row["gold"]["mean"] for row in rows]
    assert means == sorted(means, reverse=True)
    assert means[-1] < means[0] - 0.5


def test_what_a_judge_may_not_do():
    with pytest.raises(DataError, match="gold"):
        gold_values(lambda items: [1.0], [[0], [1]], None)
    with pytest.raises(ConfigError, match="n >= 20"):
        best_of_n_curve(worlds.toy(), length, 19)
    assert gold_values(lambda items: [-math.inf, 2.0], [[0], [1]], None).tolist() == [-math.inf, 2]
