"""The report of a comparison, and the curves and profiles in it."""

import numpy as np
import pytest

from esscher.branch.grid import Grid
from esscher.branch.named import policy_named
from esscher.branch.options import CompareOptions
from esscher.branch.recorded import paths_of, record
from esscher.branch.report import Drawn, compare_report, learning_curves, profile
from esscher.branch.rows import Row
from esscher.branch.setup import Setup
from esscher.branch.summary import summarise
from esscher.core.estimate import Estimate
from esscher.errors import ConfigError
from esscher.kit.runs.folder import Run
from tests.branch.problems import covering


def rows(objective=5.0):
    sizes = {"a": (10, 40, 30), "b": (20, 50, 90), "c": (20, 10, 20)}
    return [
        Row(policy, instance, 0, "timelimit" if (policy, instance) == ("c", "z") else "optimal",
            objective if policy == "b" else 5.0, n, n, n // 2, n, n / 10, n / 100)
        for policy, each in sizes.items()
        for instance, n in zip("xyz", each, strict=True)
    ]  # fmt: skip


def test_a_profile_is_the_share_within_a_factor():
    found = {series.label: series for series in profile(Grid.of(rows()), most=10.0)}
    # Factors: a 1, 4, 1; b 2, 5, 3; c 2, 1 and one that a limit ended.
    at = {
        "a": {1: 2 / 3, 3.9: 2 / 3, 4: 1},
        "b": {1.9: 0, 2: 1 / 3, 5: 1},
        "c": {1: 1 / 3, 9: 2 / 3},
    }
    for name, wanted in at.items():
        x, y = np.asarray(found[name].x), np.asarray(found[name].y)
        assert (np.diff(x) >= 0).all()
        assert x[-1] == 10
        for factor, share in wanted.items():
            assert y[x <= factor].max() == pytest.approx(share)


def test_the_report_says_what_there_is(tmp_path):
    drawn = {}
    for name in ("pseudocost", "pscost"):
        model = covering(150, 200, 0.06, 0).to_scip()
        tree, told = record(model, policy_named(name), Setup(), 0)
        assert told["fates"]["branched"] > 0
        assert sum(told["fates"].values()) == len(tree)
        paths = paths_of(tree)
        assert (len(paths) > 0) == (name == "pseudocost")
        drawn[name] = Drawn(tree, paths)
    run = Run.create(tmp_path, "branch", "compare", "x", config=CompareOptions(), seed=0)
    found = summarise(rows(), "b", rng=np.random.default_rng(0))
    path = compare_report(run, rows(), found, base="b", instance="x.mps", drawn=drawn)
    page = path.read_text(encoding="utf-8")
    for text in (
        "a makes smaller trees than b.", "found the same optimum.", "1 of 3", "Trees of x.mps",
        "pscost: ", "share of solves",
    ):  # fmt: skip
        assert text in page
    assert page.count("<svg") == 4
    assert "Learning" not in page
    assert "✗ fails" not in page


def test_optima_that_differ_fail(tmp_path):
    run = Run.create(tmp_path, "branch", "compare", "x", config=CompareOptions(), seed=0)
    wrong = rows(objective=6.0)
    found = summarise(wrong, "b", rng=np.random.default_rng(0))
    page = compare_report(run, wrong, found, base="b").read_text(encoding="utf-8")
    assert "✗ fails" in page
    assert "they differ on x, y, z" in page


def test_curves_are_those_of_the_runs_that_fitted_the_policies(tmp_path):
    run = Run.create(tmp_path, "branch", "fit", "x", config=CompareOptions(), seed=0)
    (run.path / "policy").mkdir()
    (tmp_path / "bare").mkdir()
    run.log(1, loss=2.0)
    run.log(2, nodes_gmean=90.0, log2_nodes=Estimate(6.5, 0.1, 20))
    run.log(4, nodes_gmean=40.0)
    names = {"fitted": str(run.path), "inner": str(run.path / "policy"), "random": "random",
             "bare": str(tmp_path / "bare")}  # fmt: skip
    curves = learning_curves(names)
    assert [curve.label for curve in curves] == ["fitted", "inner"]
    assert list(curves[0].x) == [2, 4]
    assert list(curves[0].y) == [90.0, 40.0]
    assert list(curves[0].se) == pytest.approx([90 * 0.1 * np.log(2), 0])
    page = compare_report(
        run, rows(), summarise(rows(), "a", rng=np.random.default_rng(0)), base="a", curves=curves
    )
    assert "while the fitted policies learnt" in page.read_text(encoding="utf-8")


def test_paths_of_an_unknown_rule_are_an_error():
    tree, _ = record(covering(150, 200, 0.06, 0).to_scip(), policy_named("random"), Setup(), 0)
    assert len(paths_of(tree, "bandit")) > len(paths_of(tree, "deepest"))
    with pytest.raises(ConfigError, match="deepst"):
        paths_of(tree, "deepst")
