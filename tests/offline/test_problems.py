"""The known problems: their optima against closed forms."""

import math

import numpy as np
import pytest
import torch

from esscher.errors import ConfigError
from esscher.kit.rl.normalise import Standardiser
from esscher.offline.problems import point_mass as pm
from esscher.offline.problems.bandit import bandit_data, bandit_density, bandit_scores, reward_of
from esscher.offline.problems.grid import grid_optimum


class Fixed(torch.nn.Module):
    """An actor that is a function of the state."""

    def __init__(self, narrow, wide):
        super().__init__()
        self.narrow, self.wide = narrow, wide

    def forward(self, obs):
        return torch.where(obs < 0, self.narrow, self.wide)


def test_the_bandit_has_the_modes_and_values_it_says():
    state = np.array([-0.5, -0.5, -0.5, 0.5])
    value = reward_of(state, np.array([0.6, -0.6, 0.0, 0.8]))
    assert value == pytest.approx([1.0, 0.6, 0.005, 1.0], abs=2e-3)
    rows = bandit_data(seed=1).transitions
    narrow = rows.obs[:, 0] < 0
    assert np.abs(np.abs(rows.action[narrow, 0]) - 0.6).mean() == pytest.approx(0.04, abs=0.005)
    assert rows.action[~narrow, 0].std() == pytest.approx(2 / math.sqrt(12), rel=0.05)
    assert rows.terminated.all()


@pytest.mark.parametrize(
    ("narrow", "wide", "scores"),
    [(0.6, 0.8, (1, 0, 1)), (-0.6, 0.8, (0.6, 0, 1)), (0.0, 0.0, (0.005, 1, 0.0008))],
)
def test_the_bandits_scores_are_exact(narrow, wide, scores):
    found = bandit_scores(Fixed(narrow, wide), Standardiser.identity(1))
    got = [found[name] for name in ("narrow_return", "narrow_ood", "wide_return")]
    assert got == pytest.approx(scores, abs=2e-3)


def test_the_bandits_oracle_is_its_density():
    statistics = Standardiser(torch.tensor([0.1]), torch.tensor([0.5]))
    law = bandit_density(statistics)
    grid = torch.linspace(-1.5, 1.5, 3001)[:, None]
    obs = statistics(torch.full((3001, 1), -0.3))
    height = law.log_prob(obs, grid).exp()
    assert float(torch.trapezoid(height, grid[:, 0])) == pytest.approx(1, abs=1e-3)
    assert float(height[1500]) < 1e-6
    middle = law.log_prob(
        statistics(torch.full((81, 1), 0.4)), torch.linspace(-0.8, 0.8, 81)[:, None]
    )
    assert float((middle.exp() - 0.5).abs().max()) < 0.06


def test_the_shortest_way_is_the_one_past_the_disc():
    """Against a fine search over polygons that touch the disc on its left."""
    a, b = (np.asarray(p) - pm.CENTRE for p in (pm.START, pm.GOAL))
    start, goal = math.atan2(a[1], a[0]), math.atan2(b[1], b[0])
    best = math.inf
    for side in (-1, 1):
        turn = (goal - start) * 1 if side > 0 else (2 * math.pi - (goal - start)) * -1
        angle = start + turn * np.linspace(0, 1, 4001)
        arc = pm.RADIUS * np.stack([np.cos(angle), np.sin(angle)], 1)
        for i in range(0, 2000, 5):
            j = 4000 - i
            legs = np.linalg.norm(a - arc[i]) + np.linalg.norm(b - arc[j])
            inside = [_closest(a, arc[i]), _closest(arc[j], b)]
            if min(inside) >= pm.RADIUS - 1e-4:
                best = min(best, legs + pm.RADIUS * abs(angle[j] - angle[i]))
    assert pm.shortest_path() == pytest.approx(best, rel=2e-3)


def _closest(p, q):
    way = q - p
    t = np.clip(-(p @ way) / (way @ way), 0, 1)
    return float(np.linalg.norm(p + t * way))


def test_value_iteration_finds_the_shortest_way():
    steps = math.ceil((pm.shortest_path() - pm.REACH - pm.JITTER) / pm.SPEED)
    bound = 1 - pm.STEP_COST * steps
    optimum = grid_optimum()
    found = pm.point_mass_scores(optimum.policy, seed=3)
    assert found["collision_rate"] == 0
    assert bound - 0.025 <= found["return"] <= bound + 0.001
    middle = np.abs(optimum.nodes).argmin()
    start = np.abs(optimum.nodes - pm.START[1]).argmin()
    assert optimum.value[middle, start] == pytest.approx(bound, abs=0.06)
    assert optimum.value.max() <= 1 - pm.STEP_COST


def test_a_step_hits_the_obstacle_on_its_way():
    place = np.array([[-0.28, 0.0], [-0.6, 0.0], [0.0, 0.55], [0.95, 0.0]])
    action = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    reached, collided, at_goal = pm.move(place, action)
    assert collided.tolist() == [True, False, False, False]
    assert at_goal.tolist() == [False, False, True, False]
    assert np.linalg.norm(reached[1] - place[1]) == pytest.approx(0.1)
    assert reached[3].tolist() == pytest.approx([1.0, 0.1 / math.sqrt(2)])
    # Both ends outside, the way between inside.
    top = pm.CENTRE[1] + pm.RADIUS - 0.001
    across = np.array([[pm.CENTRE[0] - 0.05, top]])
    assert np.linalg.norm(across - pm.CENTRE) > pm.RADIUS
    assert pm.move(across, np.array([[1.0, 0.0]]))[1].tolist() == [True]


def test_experts_pass_on_their_side_and_their_mean_does_not():
    data = pm.point_mass_data(seed=0)
    assert len(data.policies) == 2
    rows = data.transitions
    level = np.abs(rows.obs[:, 1]) < 0.05
    for identity, sign in ((0, -1), (1, 1)):
        own = rows.obs[level & (rows.policy_id == identity), 0] - pm.CENTRE[0]
        assert (np.sign(own) == sign).all()
    for row in data.provenance():
        assert row["mean_return"] > 0.5

    def straight(obs):
        return np.tile(np.array([[0.0, 1.0]], np.float32), (len(obs), 1))

    assert pm.point_mass_scores(straight)["collision_rate"] == 1
    with pytest.raises(ConfigError, match="n >= 1"):
        pm.PointMass(0, np.random.default_rng(0))
