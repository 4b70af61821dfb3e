"""Many copies of an environment side by side, and what policies do in them.

A `BatchEnv` separates the observation a step led to from the one to act on next: at the end of an
episode they differ, since the copy has been reset.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError, DataError
from esscher.kit.rl.policy import Policy
from esscher.kit.rl.transitions import Episode, Transitions, join_episodes

__all__ = ["BatchEnv", "EnvStep", "episode_returns", "random_policy", "rollout"]

Floats = NDArray[np.float32]


class EnvStep(NamedTuple):
    """One step of n copies.

    Attributes:
        next_obs: [n, d] what the step led to; of ended episodes the last observation.
        reward: [n].
        terminated: [n] bool.
        truncated: [n] bool.
        obs: [n, d] what to act on next; of ended episodes the first of a new one.
    """

    next_obs: Floats
    reward: Floats
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    obs: Floats


class BatchEnv(Protocol):
    """n copies of an environment with vector observations and a box of actions.

    Attributes:
        n: copies.
        obs_dim: d.
        low: [m] least action.
        high: [m] greatest action.
    """

    n: int
    obs_dim: int
    low: Floats
    high: Floats

    def reset(self) -> Floats:
        """First observations [n, d] of new episodes."""
        ...

    def step(self, action: Floats) -> EnvStep:
        """Act in every copy: [n, m]."""
        ...


def random_policy(env: BatchEnv, rng: np.random.Generator) -> Policy:
    """Uniform actions in the environment's box."""

    def act(obs: Floats) -> Floats:
        size = (len(obs), len(env.low))
        return rng.uniform(env.low, env.high, size).astype(np.float32)

    return act


def rollout(
    env: BatchEnv, policy: Policy, episodes: int, *, policy_id: int = 0, max_steps: int = 100_000
) -> Transitions:
    """Whole episodes, equally many from every copy (± 1), so that short ones are not favoured.

    Args:
        env: reset first.
        policy: acts in it.
        episodes: how many, >= 1.
        policy_id: written into the transitions.
        max_steps: of one copy; a copy's episode under way is then cut off and marked truncated.

    Raises:
        ConfigError: if episodes < 1.
        DataError: if an observation, action or reward is not finite.
    """
    if episodes < 1:
        raise ConfigError(f"a rollout needs episodes >= 1, got {episodes}")
    wanted = np.full(env.n, episodes // env.n) + (np.arange(env.n) < episodes % env.n)
    steps: list[EnvStep] = []
    before: list[Floats] = []
    actions: list[Floats] = []
    ended = np.zeros(env.n, dtype=np.int64)
    obs = env.reset()
    for _ in range(max_steps):
        action = _checked(policy(obs), "action")
        step = env.step(action)
        before.append(obs)
        actions.append(action)
        steps.append(step)
        ended += step.terminated | step.truncated
        obs = step.obs
        if bool((ended >= wanted).all()):
            break
    return join_episodes(_cut(before, actions, steps, wanted.tolist(), policy_id))


def episode_returns(transitions: Transitions) -> NDArray[np.float64]:
    """Undiscounted return of every episode."""
    return transitions.returns()[0]


def _cut(
    before: list[Floats],
    actions: list[Floats],
    steps: list[EnvStep],
    wanted: list[int],
    policy_id: int,
) -> list[Episode]:
    """The first episodes of every copy, in the order of copies."""
    ends = np.stack([s.terminated | s.truncated for s in steps])
    found = []
    for copy, count in enumerate(wanted):
        stops = (np.flatnonzero(ends[:, copy]) + 1).tolist()[:count]
        if len(stops) < count and (not stops or stops[-1] < len(steps)):
            stops.append(len(steps))
        start = 0
        for stop in stops:
            last = steps[stop - 1]
            cut_off = bool(last.truncated[copy]) or not bool(ends[stop - 1, copy])
            found.append(
                Episode(
                    np.stack([*(b[copy] for b in before[start:stop]), last.next_obs[copy]]),
                    np.stack([a[copy] for a in actions[start:stop]]),
                    np.array([s.reward[copy] for s in steps[start:stop]], dtype=np.float32),
                    bool(last.terminated[copy]),
                    cut_off,
                    policy_id,
                )
            )
            start = stop
    return found


def _checked(value: Floats, name: str) -> Floats:
    if not bool(np.isfinite(value).all()):
        raise DataError(f"{name} of the policy holds NaN or an infinity")
    return np.asarray(value, dtype=np.float32)
