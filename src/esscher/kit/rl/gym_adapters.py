"""Gymnasium environments as `BatchEnv`. Needs `pip install "esscher[rl]"` when called."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError
from esscher.kit.require import require
from esscher.kit.rl.rollout import EnvStep

__all__ = ["GymCopies", "GymVector", "check_spaces", "make_gym"]

EXTRA = "rl"
Floats = NDArray[np.float32]


def check_spaces(observation: Any, action: Any) -> tuple[int, Floats, Floats]:
    """Width of the observations, and the box of actions.

    Args:
        observation: a gymnasium space.
        action: a gymnasium space.

    Raises:
        ConfigError: unless observations are vectors of numbers and actions a bounded box; the space
            is named.
    """
    spaces = require("gymnasium", EXTRA).spaces
    if not isinstance(observation, spaces.Box) or len(observation.shape) != 1:
        raise ConfigError(
            f"observation_space must be a Box of one dimension, got {observation}; wrap the "
            "environment in gymnasium.wrappers.FlattenObservation"
        )
    if isinstance(action, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        raise ConfigError(
            f"action_space is discrete ({action}); these methods need continuous actions in a Box"
        )
    if not isinstance(action, spaces.Box) or len(action.shape) != 1:
        raise ConfigError(f"action_space must be a Box of one dimension, got {action}")
    low, high = action.low.astype(np.float32), action.high.astype(np.float32)
    if not bool(np.isfinite(low).all() and np.isfinite(high).all()):
        raise ConfigError(
            f"action_space is unbounded ({action}); wrap it in gymnasium.wrappers.RescaleAction"
        )
    return int(observation.shape[0]), low, high


class GymCopies:
    """n independent environments stepped in turn, each reset as soon as its episode has ended.

    Args:
        envs: gymnasium environments of equal spaces, at least one.
        seed: of the first resets; every copy gets another one.

    Raises:
        ConfigError: if there is none, or the spaces are not supported.
    """

    def __init__(self, envs: list[Any], seed: int) -> None:
        if not envs:
            raise ConfigError("expected at least one environment, got none")
        self.envs, self.n = envs, len(envs)
        first = envs[0]
        self.obs_dim, self.low, self.high = check_spaces(
            first.observation_space, first.action_space
        )
        self._seeds: list[int | None] = [
            int(word) for word in np.random.SeedSequence(seed).generate_state(self.n, np.uint32)
        ]

    def reset(self) -> Floats:
        """First observations [n, d]; copies are seeded at the first call only."""
        found = [env.reset(seed=s)[0] for env, s in zip(self.envs, self._seeds, strict=True)]
        self._seeds = [None] * self.n
        return np.stack(found).astype(np.float32)

    def step(self, action: Floats) -> EnvStep:
        """Act in every copy: [n, m]."""
        rows = [env.step(a) for env, a in zip(self.envs, action, strict=True)]
        reached = np.stack([row[0] for row in rows]).astype(np.float32)
        reward = np.array([row[1] for row in rows], dtype=np.float32)
        terminated, truncated = (np.array([bool(row[k]) for row in rows]) for k in (2, 3))
        obs = reached.copy()
        for copy in np.flatnonzero(terminated | truncated):
            obs[copy] = self.envs[copy].reset()[0]
        return EnvStep(reached, reward, terminated, truncated, obs)

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()


class GymVector:
    """A gymnasium vector environment, with the true last observations of ended episodes.

    Args:
        env: a `gymnasium.vector.VectorEnv` whose autoreset mode is SAME_STEP or DISABLED. Under
            NEXT_STEP, gymnasium's default, the action after an end is ignored and the rows of that
            step are no transitions.
        seed: of the first reset.

    Raises:
        ConfigError: if the mode is another, or the spaces are not supported.
    """

    def __init__(self, env: Any, seed: int) -> None:
        modes = require("gymnasium", EXTRA).vector.AutoresetMode
        self._mode = env.metadata.get("autoreset_mode")
        if self._mode not in (modes.SAME_STEP, modes.DISABLED):
            raise ConfigError(
                f"autoreset_mode is {self._mode}; make the environment with vector_kwargs="
                '{"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}'
            )
        self._same_step = self._mode == modes.SAME_STEP
        self.env, self.n = env, int(env.num_envs)
        self.obs_dim, self.low, self.high = check_spaces(
            env.single_observation_space, env.single_action_space
        )
        self._seed: int | None = seed

    def reset(self) -> Floats:
        """First observations [n, d]; seeded at the first call only."""
        obs, _ = self.env.reset(seed=self._seed)
        self._seed = None
        return np.array(obs, dtype=np.float32)

    def step(self, action: Floats) -> EnvStep:
        """Act in every copy: [n, m]."""
        raw, reward, terminated, truncated, info = self.env.step(action)
        obs, ended = np.array(raw, dtype=np.float32), np.asarray(terminated | truncated)
        reached = obs.copy()
        if self._same_step:
            for copy in np.flatnonzero(ended):
                reached[copy] = info["final_obs"][copy]
        elif bool(ended.any()):
            obs = np.array(self.env.reset(options={"reset_mask": ended})[0], dtype=np.float32)
        return EnvStep(
            reached,
            np.asarray(reward, dtype=np.float32),
            np.array(terminated, dtype=bool),
            np.array(truncated, dtype=bool),
            obs,
        )


def make_gym(name: str, n: int = 1, *, seed: int) -> GymCopies:
    """N copies of a registered environment.

    Args:
        name: such as "Pendulum-v1".
        n: copies, >= 1.
        seed: of their first resets.

    Raises:
        MissingExtra: if gymnasium, or the simulator the environment needs, is not installed.
        ConfigError: if there is no such environment, or its spaces are not supported.
    """
    gym = require("gymnasium", EXTRA)
    try:
        spec = gym.spec(name)
    except gym.error.Error as error:
        raise ConfigError(f"gymnasium has no environment {name!r}: {error}") from error
    if "mujoco" in str(spec.entry_point):
        # Gymnasium's renderer imports imageio at once, whether or not anything is drawn.
        for needed in ("mujoco", "imageio"):
            require(needed, EXTRA)
    return GymCopies([gym.make(name) for _ in range(n)], seed)
