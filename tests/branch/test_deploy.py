"""A policy in a model of one's own."""

import pytest

from esscher.branch.deploy import include_policy
from esscher.branch.policies import Pseudocost
from esscher.branch.solve import solve
from esscher.errors import ConfigError
from tests.branch.problems import covering, model_of

PROBLEM = covering(165, 230, 0.05, 6)


def test_an_included_policy_branches_as_in_a_solve_of_ours():
    ours = solve(model_of(PROBLEM), Pseudocost())
    model = model_of(PROBLEM)
    handle = include_policy(model, "pseudocost")
    model.optimize()
    handle.raise_error()
    assert model.getStatus() == "optimal"
    assert (model.getNTotalNodes(), handle.decisions) == (ours.nodes, ours.decisions)
    assert 0 < handle.seconds < 60


def test_limits_hand_over_to_the_fallback():
    model = model_of(PROBLEM)
    handle = include_policy(model, Pseudocost(), max_depth=1, fallback="pscost")
    model.optimize()
    assert 1 <= handle.decisions <= 3
    assert model.getStatus() == "optimal"
    model = model_of(PROBLEM)
    handle = include_policy(model, Pseudocost(), max_decisions=5)
    model.optimize()
    assert handle.decisions == 5


def test_a_model_that_is_solved_again_asks_again():
    model = model_of(PROBLEM)
    handle = include_policy(model, Pseudocost(), max_decisions=5)
    for _ in range(2):
        model.optimize()
        assert handle.decisions == 5
        model.freeTransform()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"policy": "pseudocots"}, "pseudocost"),
        ({"policy": "relpscost"}, "branching/relpscost"),
        ({"policy": Pseudocost(), "fallback": "none"}, "none"),
        ({"policy": Pseudocost(), "max_depth": -1}, "max_depth"),
    ],
)
def test_what_cannot_be_included_is_named(arguments, named):
    with pytest.raises(ConfigError, match=named):
        include_policy(model_of(PROBLEM), **arguments)
