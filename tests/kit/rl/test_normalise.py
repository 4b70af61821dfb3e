"""Standardised observations and mapped actions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esscher.errors import ConfigError, DataError, ShapeError
from esscher.kit.rl.networks import Actor
from esscher.kit.rl.normalise import ActionMap, Standardiser
from esscher.kit.rl.policy import ActorPolicy, load_policy, save_policy


def test_a_constant_dimension_stays_finite():
    rng = np.random.default_rng(0)
    obs = np.stack([rng.normal(3, 2, 500), np.full(500, 7.0)], 1).astype(np.float32)
    scale = Standardiser.fit(obs)
    assert scale.std.tolist() == pytest.approx([obs[:, 0].std() + 1e-3, 1e-3], rel=1e-5)
    out = scale(torch.from_numpy(obs))
    assert float(out[:, 0].mean()) == pytest.approx(0, abs=1e-5)
    assert out[:, 1].abs().max() < 1e-3


@given(st.floats(-50, 50), st.floats(0.1, 50), st.lists(st.floats(-1, 1), min_size=1, max_size=4))
def test_actions_map_to_and_fro(low, width, unit):
    box = ActionMap([low] * len(unit), [low + width] * len(unit))
    action = box.from_unit(torch.tensor(unit))
    assert bool(((action >= box.low - 1e-4) & (action <= box.high + 1e-4)).all())
    assert box.to_unit(action) == pytest.approx(torch.tensor(unit), abs=1e-3)


def test_asymmetric_boxes_have_their_corners():
    box = ActionMap([-1.0, 0.0], [3.0, 0.5])
    assert box.from_unit(torch.tensor([-1.0, -1.0])).tolist() == [-1.0, 0.0]
    assert box.from_unit(torch.tensor([1.0, 1.0])).tolist() == [3.0, 0.5]
    assert box.to_unit(torch.tensor([1.0, 0.25])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("low", "high", "error", "message"),
    [
        ([-1, -np.inf], [1, np.inf], ConfigError, "action dimension 1 is unbounded"),
        ([0, 1], [1, 1], ConfigError, "action dimension 1 is empty"),
        ([0], [1, 2], ShapeError, "low and high must be"),
        ([], [], ShapeError, "low and high must be"),
    ],
)
def test_boxes_that_are_none_are_refused(low, high, error, message):
    with pytest.raises(error, match=message):
        ActionMap(low, high)


def test_actions_outside_the_box_are_named():
    box = ActionMap([-2.0], [2.0])
    box.check(torch.tensor([[2.0], [-2.0]]))
    with pytest.raises(DataError, match="1 rows outside its box, first row 1"):
        box.check(torch.tensor([[0.0], [2.5]]))


@pytest.mark.parametrize(
    ("mean", "std"), [([0.0], [0.0]), ([np.nan], [1.0]), ([0.0], [np.inf]), ([0.0, 1.0], [1.0])]
)
def test_statistics_that_are_none_are_refused(mean, std):
    with pytest.raises(DataError):
        Standardiser(torch.tensor(mean), torch.tensor(std))


def test_a_saved_policy_acts_as_before(tmp_path, no_global_state):
    rng = torch.Generator().manual_seed(3)
    statistics = Standardiser(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.0, 2.0]))
    policy = ActorPolicy(Actor(3, 2, (8, 8), rng=rng), statistics, ActionMap([-2, 0], [2, 1]))
    obs = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    save_policy(policy, tmp_path)
    again = load_policy(tmp_path)
    assert np.array_equal(policy(obs), again(obs))
    assert torch.equal(again.standardiser.mean, statistics.mean)
    assert policy(obs).dtype == np.float32
