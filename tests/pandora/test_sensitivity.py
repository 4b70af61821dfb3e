"""Slopes of the optimal value in the costs, against solving again."""

import numpy as np
import pytest

from esscher.errors import ConfigError
from esscher.pandora import Box, PandoraInstance, solve
from esscher.pandora.families import FAMILIES, tight
from esscher.pandora.occupancy import visits
from esscher.pandora.sensitivity import cheaper, cost_sensitivity
from tests.pandora.test_simulate import drawn

STEP = 1e-5


def moved(instance, name, by):
    box = instance.box(name)
    return solve(instance.replace_box(box.replace(cost=box.cost + by)), 0.0).value


@pytest.mark.parametrize("family", ["random", "heavy_tailed", "exposed", "hardness_stress"])
@pytest.mark.parametrize("seed", range(4))
def test_slopes_are_those_of_solving_again(family, seed):
    instance = FAMILIES[family](5, seed)
    slopes = cost_sensitivity(solve(instance, 0.0).policy)
    for name, slope in slopes.items():
        box = instance.box(name)
        if box.cost < STEP:
            continue
        found = (moved(instance, name, STEP) - moved(instance, name, -STEP)) / (2 * STEP)
        assert slope == pytest.approx(found, abs=1e-6)


def test_every_policy_has_its_slope_inside_the_kink():
    """At a tie the value has two slopes; what is returned lies between them."""
    for seed in range(1, 12, 2):
        instance, _ = drawn(seed)
        slopes = cost_sensitivity(solve(instance, 0.0).policy)
        for name, slope in slopes.items():
            cost = instance.box(name).cost
            right = (moved(instance, name, STEP) - moved(instance, name, 0.0)) / STEP
            assert slope <= right + 1e-6
            if cost > STEP:
                left = (moved(instance, name, 0.0) - moved(instance, name, -STEP)) / STEP
                assert left - 1e-6 <= slope


def test_the_tight_family_by_hand():
    policy = solve(tight(height=1000.0), 0.0).policy
    assert cost_sensitivity(policy) == {"A": -1.0, "B": pytest.approx(-0.5)}
    found = visits(policy)
    assert found.claimed == pytest.approx(0.5)
    assert found.reached == (1.0, pytest.approx(0.5))
    assert found.spent == pytest.approx(0.5)


def test_a_cheaper_box_is_worth_at_least_its_slope():
    instance = tight(height=20.0)
    found = cheaper(instance, "B", 0.25, eps=0.0)
    assert found.after - found.before == pytest.approx(found.gain)
    assert found.gain >= found.at_least - 1e-12
    assert found.at_least == pytest.approx(0.75 * 0.5)
    free = cheaper(instance, "B", 0.0, eps=0.0)
    # With both free the best of them is taken: B's 20 with probability 0.1, else A.
    assert free.after == pytest.approx(0.1 * 20 + 0.9 * 0.5 * 2)
    assert cheaper(instance, "B", 1.0, eps=0.0).gain == 0.0
    with pytest.raises(ConfigError, match="must not be above"):
        cheaper(instance, "B", 2.0)
    with pytest.raises(ConfigError, match="there is no box"):
        cheaper(instance, "C", 0.0)


def test_a_thousand_boxes_take_no_time_to_speak_of():
    rng = np.random.default_rng(0)
    boxes = [Box(rng.random(3) * 9, rng.dirichlet(np.ones(3)), rng.random()) for _ in range(1000)]
    instance = PandoraInstance(boxes)
    found = visits(solve(instance, method="weitzman").policy)
    assert 0 < max(found.opened.values()) <= 1
    assert min(found.opened.values()) >= 0
