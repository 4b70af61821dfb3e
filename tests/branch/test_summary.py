"""What an evaluation says of every policy, by hand."""

import math

import numpy as np
import pytest

from esscher.branch.grid import Grid
from esscher.branch.rows import Row
from esscher.branch.summary import summarise
from esscher.errors import ConfigError, DataError
from esscher.kit.runs.files import json_ready


def row(policy, instance, seed=0, nodes=10, *, status="optimal", seconds=1.0, fair=None, **more):
    return Row(
        policy, instance, seed, status, more.get("objective", 5.0), nodes,
        nodes if fair is None else fair, nodes // 2, 3 * nodes, seconds, seconds / 4,
    )  # fmt: skip


def rng():
    return np.random.default_rng(0)


def test_a_summary_by_hand():
    rows = []
    for policy, sizes in {"a": [(10, 30), (100, 100)], "b": [(20, 60), (50, 50)]}.items():
        for instance, pair in zip("xy", sizes, strict=True):
            rows += [row(policy, instance, seed, n) for seed, n in enumerate(pair)]
    found = summarise(rows, "a", rng=rng())
    assert found["a"].nodes_mean.mean == 60
    assert found["b"].nodes_mean.mean == 45
    assert found["a"].nodes_gmean.mean == pytest.approx(math.sqrt(math.sqrt(300) * 100))
    assert found["a"].nodes_gmean.n == 2
    assert found["a"].decisions_mean.mean == 30
    assert (found["a"].wins.mean, found["b"].wins.mean) == (1, 1)
    assert found["b"].nodes_ratio.estimate.mean == pytest.approx(math.sqrt(2 * 0.5))
    assert found["a"].nodes_ratio is None
    assert found["b"].seconds_ratio.estimate.mean == 1
    assert found["b"].seconds_gmean.mean == pytest.approx(1)
    assert found["b"].policy_share == pytest.approx(0.25)
    assert (found["a"].censored, found["a"].solves) == (0, 4)
    assert {"nodes_mean", "nodes_gmean", "wins", "seconds_gmean"} <= set(json_ready(found)["a"])


def test_solves_that_a_limit_ended_are_counted_and_compared_by_nobody():
    rows = [
        row("a", "x", nodes=10), row("b", "x", nodes=20),
        row("a", "y", nodes=500, status="timelimit", seconds=60.0), row("b", "y", nodes=900),
    ]  # fmt: skip
    found = summarise(rows, "a", rng=rng())
    assert found["a"].nodes_mean.mean == 10
    assert found["b"].nodes_mean.mean == 20
    assert found["b"].nodes_mean.n == 1
    assert found["b"].nodes_ratio.estimate.mean == pytest.approx(2)
    assert (found["a"].censored, found["b"].censored) == (1, 0)
    assert (found["a"].wins.mean, found["b"].wins.mean) == (1, 1)
    # The time is over both instances: what the limit ended took at least so long.
    assert found["a"].seconds_gmean.mean == pytest.approx(math.sqrt(2 * 61) - 1)
    nothing = summarise([row("a", "x", status="timelimit"), row("b", "x")], "a", rng=rng())
    assert nothing["b"].nodes_gmean is None
    assert nothing["b"].nodes_ratio is None
    assert json_ready(nothing)["b"]["nodes_mean"] is None


def test_fair_nodes_decide_wins_and_ratios():
    rows = [row("plain", "x", nodes=12), row("strong", "x", nodes=4, fair=40)]
    found = summarise(rows, "plain", rng=rng())
    assert found["strong"].nodes_gmean.mean == pytest.approx(4)
    assert found["strong"].fair_gmean.mean == pytest.approx(40)
    assert found["plain"].wins.mean == 1
    assert found["strong"].nodes_ratio.estimate.mean == pytest.approx(40 / 12)


def test_an_instance_without_a_tree_counts_as_one_node():
    found = summarise([row("a", "x", nodes=0), row("a", "y", nodes=16)])
    assert found["a"].nodes_gmean.mean == pytest.approx(4)
    assert found["a"].nodes_mean.mean == 8


def test_optima_that_differ_are_named():
    rows = [row("a", "x", objective=5.0), row("b", "x", objective=5.0 + 1e-9)]
    assert Grid.of(rows).disagreeing() == []
    rows += [row("a", "y", objective=5.0), row("b", "y", objective=5.1)]
    rows += [row("a", "z", objective=None, status="infeasible"), row("b", "z", objective=1.0)]
    rows += [row("a", "w", objective=7.0, status="timelimit"), row("b", "w", objective=6.0)]
    assert Grid.of(rows).disagreeing() == ["y", "z"]


@pytest.mark.parametrize(
    ("rows", "base", "error"),
    [
        ([], None, DataError),
        ([row("a", "x"), row("b", "y")], None, DataError),
        ([row("a", "x"), row("a", "x")], None, DataError),
        ([row("a", "x")], "c", ConfigError),
    ],
)
def test_bad_input_is_a_typed_error(rows, base, error):
    with pytest.raises(error):
        summarise(rows, base, rng=rng())
    with pytest.raises(ConfigError, match="generator"):
        summarise([row("a", "x")], "a")
