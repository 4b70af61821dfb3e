"""A model set up and solved."""

import pytest

from esscher.branch.named import policy_named
from esscher.branch.options import SolveOptions
from esscher.branch.recorder import Recorder
from esscher.branch.setup import Setup, setup_of, solve_with
from esscher.branch.tree import Fate
from tests.branch.problems import covering


def test_flags_reach_the_setup():
    options = SolveOptions(
        settings="nocut", selector="dfs", time_limit=2.0, node_limit=7, max_depth=3,
        fallback="pscost",
    )  # fmt: skip
    found = setup_of(options)
    assert (found.settings, found.selector, found.time_limit) == ("nocut", "dfs", 2.0)
    assert (found.node_limit, found.limits.max_depth, found.fallback) == (7, 3, "pscost")
    assert setup_of(SolveOptions()) == Setup("scip")


def test_strong_branching_ends_with_the_time_like_any_other():
    recorder = Recorder()
    hard = covering(300, 500, 0.05, 0).to_scip()
    found = solve_with(hard, policy_named("strong"), Setup(time_limit=1.0), 0, recorder)
    assert found.status == "timelimit"
    assert found.seconds >= 1.0
    assert not found.tree.complete
    assert found.decisions == len(found.tree.visited)
    assert found.decisions == 0 or Fate.OPEN in found.tree.fate


@pytest.mark.parametrize("name", ["random", "pscost"])
def test_no_time_at_all_is_a_clean_status(name):
    problem = covering(60, 80, 0.08, 0).to_scip()
    found = solve_with(problem, policy_named(name), Setup(time_limit=0.0), 0)
    assert (found.status, found.decisions) == ("timelimit", 0)
