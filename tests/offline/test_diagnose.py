"""Diagnostics of a fit: values at the start, weights, and states with their behaviour."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from esscher.kit.rl.normalise import Standardiser
from esscher.kit.rl.rollout import EnvStep
from esscher.offline import configuration
from esscher.offline.diagnose import chosen_states, start_value, state_weights
from esscher.offline.pictures import action_figure, spread_figure
from esscher.offline.prepare import prepare
from esscher.offline.problems.bandit import MODE, bandit_data, bandit_density
from esscher.offline.training import train

TINY = {"td3__width": 8, "td3__batch": 16, "steps": 4, "warm_start": 0}


@pytest.fixture(scope="module")
def fits():
    dataset = bandit_data(2000)
    density = bandit_density(Standardiser.fit(dataset.transitions.obs))
    data = prepare(configuration("td3_rkl"), dataset, 0, density=density)
    names = ("td3_rkl", "bc", "iql", "cql")
    return dataset, {name: train(configuration(name, **TINY), data) for name in names}


class Three:
    """Rewards 1, 1, 1 and an end, from one state."""

    n, obs_dim = 2, 1
    low, high = np.array([-1.0], np.float32), np.array([1.0], np.float32)

    def reset(self):
        self.t = 0
        return np.zeros((2, 1), np.float32)

    def step(self, action):
        self.t = self.t % 3 + 1
        ended, obs = np.full(2, self.t == 3), np.zeros((2, 1), np.float32)
        return EnvStep(obs, np.ones(2, np.float32), ended, np.zeros(2, bool), obs)


@pytest.mark.parametrize("name", ["td3_rkl", "iql", "cql"])
def test_what_a_critic_promises_is_held_against_the_discounted_return(fits, name):
    result = fits[1][name]
    found = start_value(result, Three(), gamma=0.5, episodes=6)
    assert found.kept.mean == pytest.approx(1.75)
    assert (found.kept.n, found.kept.se) == (6, 0)
    obs = result.data.standardiser(torch.zeros(1, 1))
    q = result.learner.q(torch.cat([obs, result.learner.actor(obs)], 1)).item()
    assert found.promised.mean == pytest.approx(q, abs=1e-5)


def test_cloning_promises_nothing_and_weighs_nothing(fits):
    assert start_value(fits[1]["bc"], Three(), gamma=0.5, episodes=2) is None
    assert state_weights(fits[1]["bc"]) is None


def test_weights_are_those_of_the_entropy(fits):
    dataset, results = fits
    weight = state_weights(results["td3_rkl"])
    narrow = dataset.transitions.obs[:, 0] < 0
    assert weight.mean() == pytest.approx(1, abs=1e-5)
    # ln 2 of the box against that of two Gaussians of 0.05: a ratio of 1 / (0.05 √(2πe)).
    ratio = np.exp(np.log(weight[narrow]).mean() - np.log(weight[~narrow]).mean())
    assert ratio == pytest.approx(4.84, rel=0.15)


def test_chosen_states_go_from_narrow_to_wide_and_show_what_was_done_near_by(fits):
    dataset, results = fits
    narrow, _, wide = chosen_states(results["td3_rkl"].data, seed=0)
    assert float((narrow.data.abs() - MODE).abs().max()) < 0.3
    assert float(wide.data.std()) == pytest.approx(1 / np.sqrt(3), abs=0.08)
    assert sorted({round(v, 2) for v in narrow.modes[:, 0].tolist()}) == [-MODE, MODE]
    lines = [line for axes in action_figure([narrow, wide], results).axes for line in axes.lines]
    acted = float(results["bc"].learner.actor(narrow.obs).detach())
    assert any(list(line.get_xdata()) == pytest.approx([acted] * 2) for line in lines)
    figure = spread_figure(dataset, state_weights(results["td3_rkl"]))
    shares = [line.get_ydata() for line in figure.axes[0].lines]
    assert [float(np.sum(y)) for y in shares] == pytest.approx([1, 1, 1])


def test_without_a_density_no_states_are_chosen(fits):
    assert chosen_states(replace(fits[1]["bc"].data, density=None), seed=0) == []
