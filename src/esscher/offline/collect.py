"""Behaviour policies of several levels from one training run, and their logs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from esscher.errors import ConfigError
from esscher.kit.rl import td3
from esscher.kit.rl.gym_adapters import make_gym
from esscher.kit.rl.normalise import ActionMap, Standardiser
from esscher.kit.rl.policy import ActorPolicy, Policy
from esscher.kit.rl.replay import Replay
from esscher.kit.rl.rollout import BatchEnv, random_policy, rollout
from esscher.kit.rl.td3 import TD3Config
from esscher.kit.runs.seeds import Streams
from esscher.offline.data import MixedDataset
from esscher.offline.options import CollectOptions
from esscher.offline.problems.point_mass import PointMass, point_mass_data

__all__ = ["LEVELS", "Levels", "collect", "env_of", "noisy", "train_behaviour"]

LEVELS = ("random", "medium", "expert")
WARMUP = 1000
"""Environment steps of uniform actions before training begins."""
LOOKS = 20
EPISODES = 5

Floats = NDArray[np.float32]
Said = Callable[[str], None]


@dataclass(frozen=True)
class Levels:
    """Policies of one training run.

    Attributes:
        policies: by level.
        returns: mean evaluated return of each.
    """

    policies: dict[str, Policy]
    returns: dict[str, float]


def env_of(name: str, n: int, seed: int) -> BatchEnv:
    """An environment by name: `point-mass`, or what gymnasium has.

    Raises:
        ConfigError: if there is none of that name.
        MissingExtra: if gymnasium is needed and not installed.
    """
    if name in ("point-mass", "point mass"):
        return PointMass(n, Streams(seed).numpy("point mass"))
    return make_gym(name, n, seed=seed)


def collect(options: CollectOptions, say: Said | None = None) -> MixedDataset:
    """Train behaviour policies and log whole episodes of every level wanted.

    Raises:
        ConfigError: if a level or the environment is unknown.
    """
    unknown = [level for level in options.levels if level not in LEVELS]
    if unknown or not options.levels:
        raise ConfigError(f"levels are {', '.join(LEVELS)}, got {list(options.levels)}")
    if options.env in ("point-mass", "point mass"):
        return point_mass_data(2 * options.episodes, options.seed)
    env = make_gym(options.env, 1, seed=options.seed)
    levels = train_behaviour(env, options.train_steps, seed=options.seed, say=say)
    parts = []
    for number, level in enumerate(options.levels):
        copies = make_gym(options.env, min(10, options.episodes), seed=options.seed + 1 + number)
        rng = Streams(options.seed).numpy("log", level)
        policy = noisy(levels.policies[level], copies, options.noise, rng)
        rows = rollout(copies, policy, options.episodes)
        low, high = (tuple(map(float, bound)) for bound in (copies.low, copies.high))
        parts.append((MixedDataset(rows, low, high, (level,), options.env), options.episodes))
        copies.close()
    return MixedDataset.mix(parts, by="episodes", seed=options.seed)


def train_behaviour(
    env: BatchEnv,
    steps: int,
    *,
    seed: int,
    config: TD3Config | None = None,
    say: Said | None = None,
) -> Levels:
    """TD3 in one copy of an environment, looked at twenty times.

    The expert is the policy of the highest evaluated return; medium is the first whose return is at
    least half way from the random policy's to it.

    Raises:
        ConfigError: if there are fewer steps than twice the warm-up, or several copies.
    """
    if steps < 2 * WARMUP or env.n != 1:
        raise ConfigError(
            f"training needs one copy and train_steps >= {2 * WARMUP}, got {env.n} and {steps}"
        )
    streams = Streams(seed)
    config = config or TD3Config(lr_actor=1e-3, lr_critic=1e-3, width=128, batch=128)
    action_map = ActionMap(env.low.tolist(), env.high.tolist())
    m = len(env.low)
    replay = Replay(steps, env.obs_dim, m)
    uniform = random_policy(env, streams.numpy("warm-up"))
    seen: list[tuple[float, dict[str, Any]]] = []
    state = td3.init(env.obs_dim, m, config, streams)
    statistics = Standardiser.identity(env.obs_dim)
    rng = streams.numpy("exploration")
    obs = env.reset()
    looks = {round(i) for i in np.linspace(WARMUP, steps, LOOKS + 1)[1:]}
    for done in range(1, steps + 1):
        acting = ActorPolicy(state.actor, statistics, action_map)
        explorer = uniform if done <= WARMUP else noisy(acting, env, 0.1, rng)
        obs = _explore(env, obs, explorer, replay, action_map=action_map, statistics=statistics)
        if done == WARMUP:
            statistics = _restandardised(replay)
        if done > WARMUP:
            td3.step(state, replay.sample(config.batch, state.rng), config)
        if done in looks:
            value = _evaluated(env, acting)
            obs = env.reset()
            seen.append((value, {k: v.clone() for k, v in state.actor.state_dict().items()}))
            if say is not None:
                say(f"behaviour policy, {done} of {steps} steps: return {value:.1f}")
    chance = float(rollout(env, uniform, EPISODES).returns()[0].mean())
    return _levels(seen, chance, uniform, ActorPolicy(state.actor, statistics, action_map))


def noisy(policy: Policy, env: BatchEnv, std: float, rng: np.random.Generator) -> Policy:
    """A policy with Gaussian noise, in units of half the action box, clipped to the box."""
    half = (env.high - env.low) / 2

    def act(obs: Floats) -> Floats:
        action = policy(obs)
        noise = std * half * rng.normal(size=action.shape)
        return np.clip(action + noise, env.low, env.high).astype(np.float32)

    return act


def _explore(
    env: BatchEnv,
    obs: Floats,
    policy: Policy,
    replay: Replay,
    *,
    action_map: ActionMap,
    statistics: Standardiser,
) -> Floats:
    action = policy(obs)
    step = env.step(action)
    replay.add(
        statistics(torch.from_numpy(obs)),
        action_map.to_unit(torch.from_numpy(action)),
        torch.from_numpy(step.reward),
        statistics(torch.from_numpy(step.next_obs)),
        torch.from_numpy(step.terminated),
    )
    return step.obs


def _restandardised(replay: Replay) -> Standardiser:
    """Statistics of the rows so far, which are rewritten in them."""
    rows, d, m = replay.rows[: len(replay)], replay.obs_dim, replay.action_dim
    statistics = Standardiser.fit(rows[:, :d].numpy())
    rows[:, :d] = statistics(rows[:, :d])
    rows[:, d + m : 2 * d + m] = statistics(rows[:, d + m : 2 * d + m])
    return statistics


def _evaluated(env: BatchEnv, policy: Policy) -> float:
    return float(rollout(env, policy, EPISODES).returns()[0].mean())


def _levels(
    seen: list[tuple[float, dict[str, Any]]], chance: float, uniform: Policy, shape: ActorPolicy
) -> Levels:
    best = max(range(len(seen)), key=lambda i: seen[i][0])
    half = chance + (seen[best][0] - chance) / 2
    medium = next(i for i in range(len(seen)) if seen[i][0] >= half or i == best)
    policies: dict[str, Policy] = {"random": uniform}
    returns = {"random": chance}
    for level, index in (("medium", medium), ("expert", best)):
        policies[level] = _copied(shape, seen[index][1])
        returns[level] = seen[index][0]
    return Levels(policies, returns)


def _copied(shape: ActorPolicy, weights: dict[str, Any]) -> ActorPolicy:
    policy = copy.deepcopy(shape)
    policy.actor.load_state_dict(weights)
    return policy
