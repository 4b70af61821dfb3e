"""Gymnasium environments: true successors in every mode, and spaces that are refused."""

import subprocess
import sys

import numpy as np
import pytest

from esscher.errors import ConfigError
from esscher.kit.rl.gym_adapters import GymCopies, GymVector, check_spaces, make_gym
from esscher.kit.rl.rollout import random_policy, rollout

gym = pytest.importorskip("gymnasium")
spaces = gym.spaces


class Count(gym.Env):
    """Counts its steps and ends after `length`, by termination if odd."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,))
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, length):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        ended = self.steps == self.length
        odd = self.length % 2 == 1
        obs = np.array([self.steps], np.float32)
        return obs, float(action[0]), ended and odd, ended and not odd, {}


def vector(mode, lengths=(2, 3)):
    makers = [lambda n=n: Count(n) for n in lengths]
    return gym.vector.SyncVectorEnv(makers, autoreset_mode=mode)


@pytest.mark.parametrize("kind", ["copies", "SAME_STEP", "DISABLED"])
def test_the_last_observation_is_the_true_one(kind):
    if kind == "copies":
        env = GymCopies([Count(2), Count(3)], 0)
    else:
        env = GymVector(vector(gym.vector.AutoresetMode[kind]), 0)
    rows = rollout(env, random_policy(env, np.random.default_rng(0)), 4)
    episodes = list(rows.episodes())
    assert [e.obs[:, 0].tolist() for e in episodes] == [[0, 1, 2]] * 2 + [[0, 1, 2, 3]] * 2
    assert [e.terminated for e in episodes] == [False, False, True, True]
    assert [e.truncated for e in episodes] == [True, True, False, False]
    assert np.array_equal(rows.reward, rows.action[:, 0])


def test_rows_that_are_no_transitions_are_not_taken():
    with pytest.raises(ConfigError, match=r"autoreset_mode is .*NEXT_STEP.*SAME_STEP"):
        GymVector(vector(gym.vector.AutoresetMode.NEXT_STEP), 0)


BOX = spaces.Box(-1.0, 1.0, (2,))


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (BOX, spaces.Discrete(3), "action_space is discrete"),
        (BOX, spaces.MultiDiscrete([2, 2]), "action_space is discrete"),
        (BOX, spaces.Dict({"a": BOX}), "action_space must be a Box"),
        (BOX, spaces.Tuple([BOX, spaces.Discrete(2)]), "action_space must be a Box"),
        (BOX, spaces.Box(-np.inf, np.inf, (1,)), "action_space is unbounded"),
        (spaces.Box(0, 1, (2, 2)), BOX, "observation_space must be a Box of one dimension"),
        (spaces.Discrete(2), BOX, "observation_space must be a Box"),
        (spaces.Dict({"a": BOX}), BOX, "observation_space must be a Box"),
    ],
)
def test_spaces_that_do_not_fit_are_named(observation, action, message):
    with pytest.raises(ConfigError, match=message):
        check_spaces(observation, action)


def test_an_environment_by_name():
    env = make_gym("Pendulum-v1", 2, seed=3)
    assert (env.n, env.obs_dim, env.low.tolist(), env.high.tolist()) == (2, 3, [-2.0], [2.0])
    rows = rollout(env, random_policy(env, np.random.default_rng(0)), 2)
    assert len(rows) == 400
    assert rows.truncated.sum() == 2
    assert not rows.terminated.any()
    again = make_gym("Pendulum-v1", 2, seed=3)
    assert np.array_equal(again.reset(), make_gym("Pendulum-v1", 2, seed=3).reset())
    with pytest.raises(ConfigError, match="no environment 'Pendulun-v1'"):
        make_gym("Pendulun-v1", seed=0)


def test_an_environment_with_a_simulator_steps():
    pytest.importorskip("mujoco")
    env = make_gym("Hopper-v5", 2, seed=3)
    assert (env.n, env.obs_dim, len(env.low)) == (2, 11, 3)
    rows = rollout(env, random_policy(env, np.random.default_rng(0)), 4)
    # A hopper that falls has ended; its time limit is far off.
    assert rows.terminated.sum() == 4
    assert not rows.truncated.any()


@pytest.mark.parametrize(
    ("missing", "environment"),
    [("gymnasium", "Pendulum-v1"), ("mujoco", "Hopper-v5"), ("imageio", "Hopper-v5")],
)
def test_without_an_optional_package_the_pip_line_is_named(missing, environment):
    code = (
        f"import sys; sys.modules['{missing}'] = None\n"
        "from esscher.kit.rl.gym_adapters import make_gym\n"
        f"make_gym('{environment}', seed=0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f'{missing} is not installed; run: pip install "esscher[rl]"' in done.stderr
