"""Rollouts: true last observations, true flags, and no preference for short episodes."""

import numpy as np
import pytest

from esscher.errors import ConfigError, DataError
from esscher.kit.rl.rollout import episode_returns, random_policy, rollout
from tests.kit.rl.data import Counter


def halves(obs):
    return np.full((len(obs), 1), 0.5, dtype=np.float32)


def test_episodes_are_what_the_environment_did():
    rows = rollout(Counter(3), halves, 6, policy_id=4)
    episodes = list(rows.episodes())
    assert [len(e.action) for e in episodes] == [2, 2, 3, 3, 4, 4]
    assert [e.terminated for e in episodes] == [False, False, True, True, False, False]
    assert [e.truncated for e in episodes] == [True, True, False, False, True, True]
    for e in episodes:
        assert e.obs[:, 1].tolist() == list(range(len(e.action) + 1))
        assert len(set(e.obs[:, 0].tolist())) == 1
    assert set(rows.policy_id.tolist()) == {4}
    assert episode_returns(rows).tolist() == [1.0, 1.0, 1.5, 1.5, 2.0, 2.0]


@pytest.mark.parametrize(("episodes", "lengths"), [(1, [2]), (4, [2, 2, 3, 4]), (2, [2, 3])])
def test_copies_give_equally_many(episodes, lengths):
    rows = rollout(Counter(3), halves, episodes)
    assert [len(e.action) for e in rows.episodes()] == lengths


def test_an_episode_under_way_is_cut_off():
    rows = rollout(Counter(3), halves, 3, max_steps=3)
    episodes = list(rows.episodes())
    assert [len(e.action) for e in episodes] == [2, 3, 3]
    assert [e.truncated for e in episodes] == [True, False, True]
    assert [e.terminated for e in episodes] == [False, True, False]


def test_random_actions_fill_the_box():
    env = Counter(2)
    policy = random_policy(env, np.random.default_rng(0))
    actions = np.concatenate([policy(env.reset()) for _ in range(200)])
    assert -2 <= actions.min() < -1.9
    assert 1.9 < actions.max() <= 2


def test_bad_policies_and_counts_are_refused():
    with pytest.raises(ConfigError, match="episodes >= 1"):
        rollout(Counter(1), halves, 0)
    with pytest.raises(DataError, match="action of the policy"):
        rollout(Counter(1), lambda obs: halves(obs) * np.nan, 1)
