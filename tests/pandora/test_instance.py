"""Instances: names, outside options, dictionaries."""

import math

import pytest

from esscher.errors import ConfigError
from esscher.pandora import Box, PandoraInstance, solve

A, B = Box([0, 2], [0.5, 0.5], 0.0, "A"), Box([0, 10], [0.8, 0.2], 1.0)


def test_boxes_without_a_name_are_numbered():
    problem = PandoraInstance([A, B])
    assert problem.names == ("A", "2")
    assert problem.box("2").cost == 1.0
    assert len(problem) == 2
    assert problem.replace_box(A.replace(cost=0.5)).boxes[0].cost == 0.5


@pytest.mark.parametrize("outside", [0.0, -3.5, -math.inf])
def test_dictionaries_go_both_ways(outside):
    problem = PandoraInstance([A, B], outside, "obligatory")
    again = PandoraInstance.from_dict(problem.to_dict())
    assert again == problem


def test_the_contract_needs_boxes_only():
    rows = [{"cost": 1, "values": [0, 10], "probs": [0.8, 0.2]}]
    problem = PandoraInstance.from_dict({"outside": 0, "boxes": rows})
    assert problem.names == ("1",)
    assert problem.outside == 0.0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "'boxes' is missing"),
        ({"boxes": [], "colour": 1}, "'colour' is unknown"),
        ({"boxes": "A"}, "must be a list"),
        ({"boxes": [3]}, "box 1 must be an object"),
        ({"boxes": [{"name": "X", "values": [1], "probs": [1]}]}, "'X': 'cost' is missing"),
        ({"boxes": [{"name": "X", "cost": "a", "values": [1], "probs": [1]}]}, "'X': cost must be"),
        ({"boxes": [{"name": "X", "cost": 1, "values": [1], "probs": [2]}]}, "'X'.*sum to 1"),
        ({"boxes": [], "outside": "much"}, "outside must be a number"),
    ],
)
def test_bad_dictionaries_are_refused(data, says):
    with pytest.raises(ConfigError, match=says):
        PandoraInstance.from_dict(data)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PandoraInstance([A, A]), "'A' is used twice"),
        (lambda: PandoraInstance([A], math.nan), "outside"),
        (lambda: PandoraInstance([A], math.inf), "outside"),
        (lambda: PandoraInstance([], -math.inf), "without boxes"),
        (lambda: PandoraInstance([A], 0.0, "perhaps"), "perhaps"),
        (lambda: PandoraInstance([A]).box("C"), "no box 'C'"),
    ],
)
def test_bad_instances_are_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"eps": -1.0}, "eps"),
        ({"eps": math.nan}, "eps"),
        ({"method": "magic"}, "magic"),
        ({"time_limit": 0.0}, "time_limit"),
        ({"max_bytes": 0}, "max_bytes"),
    ],
)
def test_bad_settings_are_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        solve(PandoraInstance([A]), **settings)


def test_without_an_outside_option_a_box_is_taken():
    bad = Box([-5.0, -3.0], [0.5, 0.5], 0.1, "A")
    problem = PandoraInstance([bad], -math.inf)
    assert solve(problem).value == pytest.approx(-4.0)
    assert solve(PandoraInstance([bad], -math.inf, "obligatory")).value == pytest.approx(-4.1)
    assert solve(PandoraInstance([bad])).value == 0.0


def test_the_zero_of_the_values_does_not_matter():
    base = [Box([0, 2], [0.5, 0.5], 0.1, "A"), Box([0, 10], [0.8, 0.2], 1.0, "B")]
    moved = [Box(b.values + 7.25, b.probs, b.cost, b.name) for b in base]
    first, second = solve(PandoraInstance(base)), solve(PandoraInstance(moved, 7.25))
    assert second.value == pytest.approx(first.value + 7.25, abs=1e-12)
    assert second.policy.order == first.policy.order
