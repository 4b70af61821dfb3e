"""Policies: their value against playing out everything, what they say, and certificates."""

import numpy as np
import pytest

from esscher.errors import ConfigError
from esscher.pandora import (
    Box,
    Claim,
    Open,
    PandoraInstance,
    Take,
    TwoPhasePolicy,
    solve,
    verify,
)
from esscher.pandora.families import tight
from esscher.pandora.policy import order_value
from esscher.pandora.weitzman import Grid
from tests.pandora.problems import KINDS, instance, play_out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outside", [0.0, 0.75, -np.inf])
def test_the_value_of_any_policy_is_what_it_earns(kind, outside):
    rng = np.random.default_rng(1)
    for _ in range(40):
        problem = instance(rng, int(rng.integers(1, 5)), kind, outside)
        names = list(rng.permutation(problem.names))
        k = int(rng.integers(0, len(names)))
        backup = names[k] if rng.random() < 0.8 else None
        policy = TwoPhasePolicy(problem, tuple(names[:k]), backup)
        truth = play_out(policy)
        assert policy.value == pytest.approx(truth, abs=1e-9)
        assert verify(problem, policy, truth).holds
        assert verify(problem, policy, truth).value == pytest.approx(truth, abs=1e-9)
        assert not verify(problem, policy, truth + 1e-3).holds
        grid = Grid(problem)
        order = [problem.index(name) for name in policy.order]
        least = order_value(grid, order, None if backup is None else problem.index(backup))
        assert grid.base + least <= policy.value + 1e-9


def test_the_steps_on_the_tight_family():
    policy = solve(tight(height=1000.0), method="exact").policy
    assert policy.next_action({}) == Open("A")
    assert policy.next_action({"A": 2.0}) == Open("B")
    assert policy.next_action({"A": 0.0}) == Claim("B")
    assert policy.next_action({"A": 2.0, "B": 0.0}) == Take("A")
    assert policy.next_action({"A": 2.0, "B": 1000.0}) == Take("B")
    (threshold,) = policy.thresholds
    assert policy.next_action({"A": threshold}) == Open("B")
    assert policy.next_action({"A": threshold - 1e-6}) == Claim("B")


@pytest.mark.parametrize(
    ("opened", "says"),
    [
        ({"C": 1.0}, "no box 'C'"),
        ({"A": np.nan}, "must be finite"),
        ({"B": 1.0}, "does not open 'B'"),
        ({"A": 0.0, "B": 5.0}, "does not open 'B'"),
    ],
)
def test_histories_that_cannot_be_are_refused(opened, says):
    policy = TwoPhasePolicy(tight(height=1000.0), ("A",), "B")
    with pytest.raises(ConfigError, match=says):
        policy.next_action(opened)


def test_nothing_is_taken_where_all_is_below_the_outside_option():
    problem = PandoraInstance([Box([-3.0, 1.0], [0.5, 0.5], 0.1, "A")])
    policy = TwoPhasePolicy(problem)
    assert policy.next_action({}) == Open("A")
    assert policy.next_action({"A": -3.0}) == Take(None)
    assert policy.next_action({"A": 1.0}) == Take("A")


@pytest.mark.parametrize(
    ("order", "backup", "says"),
    [
        (("A", "A"), None, "one place"),
        (("A",), "A", "one place"),
        (("C",), None, "no box 'C'"),
        ((), "C", "no box 'C'"),
    ],
)
def test_bad_certificates_are_refused(order, backup, says):
    with pytest.raises(ConfigError, match=says):
        TwoPhasePolicy(tight(), order, backup)


def test_obligatory_inspection_knows_no_backup():
    problem = PandoraInstance(tight().boxes, 0.0, "obligatory")
    with pytest.raises(ConfigError, match="cannot be taken unseen"):
        TwoPhasePolicy(problem, ("A",), "B")
    with pytest.raises(ConfigError, match="cannot be taken unseen"):
        verify(problem, TwoPhasePolicy(tight(), ("A",), "B"), 1.0)
    with pytest.raises(ConfigError, match="threshold"):
        verify(tight(), TwoPhasePolicy(tight()), np.nan)


def test_a_result_can_be_written_as_json():
    import json

    found = solve(tight(height=100.0))
    row = json.loads(json.dumps(found.to_dict()))
    assert row["order"] == ["A"]
    assert row["backup"] == "B"
    assert row["gap"] == 0.0
    assert row["certified"] is True
