"""Conservative Q-learning: its penalty against integrals, its policy's density, and a bandit."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from esscher.kit.rl.networks import Actor, mlp
from esscher.offline import configuration
from esscher.offline.cql import SquashedPolicy, soft_maximum
from esscher.offline.prepare import prepare
from esscher.offline.problems.bandit import bandit_data, bandit_scores
from esscher.offline.training import make_learner, train

TINY = {"td3__width": 32, "td3__batch": 64}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def bandit():
    return prepare(configuration("cql"), bandit_data(2000), 0)


def test_the_policys_density_is_that_of_a_squashed_gaussian():
    policy = SquashedPolicy(Actor(2, 3, (8,), rng=rng()), mlp((2, 8, 3), rng=rng(1)))
    obs = torch.randn(5, 2, generator=rng(2))
    action, found = policy(obs, 7, rng(3))
    with torch.no_grad():
        mean = policy.actor.body(obs)[:, None].double().numpy()
        std = policy.spread(obs).exp()[:, None].double().numpy()
        raw = np.arctanh(action.double().numpy())
    expected = stats.norm(mean, std).logpdf(raw) - np.log1p(-(np.tanh(raw) ** 2))
    assert found.detach().numpy() == pytest.approx(expected.sum(-1), abs=1e-3)
    assert action.shape == (5, 7, 3)


def test_the_soft_maximum_is_the_integral_whatever_the_draws_come_from():
    grid = torch.linspace(-1, 1, 4001).double()
    q = lambda a: 3 * torch.sin(4 * a) - a  # noqa: E731
    exact = float(torch.logsumexp(q(grid), 0) + math.log(2 / 4001))
    policy = SquashedPolicy(Actor(1, 1, (8,), rng=rng()), mlp((1, 8, 1), rng=rng(1)))
    with torch.no_grad():
        narrow, log_prob = policy(torch.zeros(1, 1), 40_000, rng(2))
    even = 2 * torch.rand(1, 40_000, generator=rng(3)) - 1
    for draws, density in ((even, torch.full_like(even, -math.log(2))), (narrow[..., 0], log_prob)):
        found = float(soft_maximum(q(draws), density)) - math.log(40_000)
        assert found == pytest.approx(exact, abs=0.03)


def test_the_penalty_is_brute_force_over_an_actions_grid(bandit):
    learner = make_learner(configuration("cql", conservative_draws=3000, **TINY), bandit, 0)
    obs = torch.linspace(-1.5, 1.5, 7)[:, None]
    found = learner.soft_maxima(obs, obs.flip(0)) - math.log(9000)
    grid = torch.linspace(-1, 1, 2001)
    for values, row in zip((learner._critic.first, learner._critic.second), found, strict=True):
        pairs = torch.stack(torch.meshgrid(obs[:, 0], grid, indexing="ij"), -1)
        exact = torch.logsumexp(values(pairs).squeeze(-1), 1) + math.log(2 / 2001)
        assert torch.allclose(row, exact, atol=0.05)
    # Its gradient lifts the data and lowers a softmax of everything: in sum it moves nothing.
    bias = learner._critic.first[-1].bias
    q = learner._critic.first(torch.cat([obs, obs.clamp(-1, 1)], 1)).squeeze(-1)
    gap = learner.soft_maxima(obs, obs)[0] - q
    assert torch.autograd.grad(gap.mean(), bias)[0].item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("budget", "grows"), [(-100.0, True), (100.0, False)])
def test_the_multiplier_grows_above_its_budget_and_falls_below(bandit, budget, grows):
    learner = make_learner(configuration("cql", conservative_budget=budget, **TINY), bandit, 0)
    for _ in range(3):
        learner.step()
    assert (learner.step()["multiplier"] > 1) is grows


def test_the_penalty_closes_the_gap_between_what_might_be_and_the_data(bandit):
    small = {"steps": 80, "conservative_draws": 4, "td3__lr_critic": 3e-3, **TINY}
    gaps = [
        train(configuration("cql", conservative_weight=w, **small), bandit, every=40).history[-1]
        for w in (50.0, 0.0)
    ]
    assert gaps[0]["conservative_gap"] < gaps[1]["conservative_gap"] - 0.05


def test_it_learns_the_bandit_where_the_data_leave_room(bandit):
    # Rewards are large beside the entropy, whose temperature falls slowly from 1.
    data = replace(bandit, replay=copy.deepcopy(bandit.replay))
    data.replay.rows[:, -2] *= 30
    config = configuration("cql", steps=600, td3__lr_actor=1e-3, td3__lr_critic=1e-3, **TINY)
    result = train(replace(config, conservative_draws=4), data, seed=0)
    found = bandit_scores(result.policy.actor, data.standardiser)
    assert found["wide_return"] >= 0.7
    assert found["narrow_return"] >= 0.1
