"""Behaviour policies of several levels from one training run, and where they are kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from esscher.errors import ConfigError
from esscher.kit.rl import td3
from esscher.kit.rl.normalise import ActionMap, Standardiser
from esscher.kit.rl.policy import ActorPolicy, Policy, load_policy, save_policy
from esscher.kit.rl.replay import Replay
from esscher.kit.rl.rollout import BatchEnv, random_policy, rollout
from esscher.kit.rl.td3 import TD3Config
from esscher.kit.runs.files import read_json, write_json
from esscher.kit.runs.seeds import Streams

__all__ = ["LEVELS", "Levels", "load_levels", "noisy", "save_levels", "train_behaviour"]

LEVELS = ("random", "medium", "expert")
LEAST_WARMUP = 1000
"""Fewest environment steps of uniform actions before training begins."""
LOOKS = 20
EPISODES = 10
"""Of a look: of fewer the best look is often the luckiest."""
_INDEX = "levels.json"

Floats = NDArray[np.float32]
Step = Callable[[int, dict[str, Any]], None]


@dataclass(frozen=True)
class Levels:
    """Policies of one training run. The random one is none of them: it needs no training.

    Attributes:
        policies: by level.
        returns: mean evaluated return of each, and of the random policy.
    """

    policies: dict[str, ActorPolicy]
    returns: dict[str, float]


def train_behaviour(
    env: BatchEnv,
    steps: int,
    *,
    seed: int,
    config: TD3Config | None = None,
    on_step: Step | None = None,
) -> Levels:
    """TD3 in one copy of an environment, looked at twenty times.

    The expert is the policy of the highest evaluated return; medium is the first whose return is at
    least half way from the random policy's to it. Actions are uniform in the first thirtieth
    of the steps, 1000 at least; what they meet standardises the observations.

    Args:
        env: one copy.
        steps: of the environment, and nearly as many of gradients.
        seed: one integer for every random number.
        config: of TD3; 128 units, batches of 128 and rates of 1e-3 by default.
        on_step: called with the step and, after a look, {"return": what it saw}.

    Raises:
        ConfigError: if there are fewer steps than twice the warm-up, or several copies.
    """
    warmup = max(LEAST_WARMUP, steps // 30)
    if steps < 2 * warmup or env.n != 1:
        raise ConfigError(
            f"training needs one copy and train_steps >= {2 * warmup}, got {env.n} and {steps}"
        )
    streams = Streams(seed)
    config = config or TD3Config(lr_actor=1e-3, lr_critic=1e-3, width=128, batch=128)
    action_map, m = ActionMap(env.low.tolist(), env.high.tolist()), len(env.low)
    replay = Replay(steps, env.obs_dim, m)
    uniform = random_policy(env, streams.numpy("warm-up"))
    state = td3.init(env.obs_dim, m, config, streams)
    acting = ActorPolicy(state.actor, Standardiser.identity(env.obs_dim), action_map)
    rng = streams.numpy("exploration")
    looks = {round(i) for i in np.linspace(warmup, steps, LOOKS + 1)[1:]}
    seen: list[tuple[float, dict[str, Any]]] = []
    obs = env.reset()
    for done in range(1, steps + 1):
        explorer = uniform if done <= warmup else noisy(acting, env, 0.1, rng)
        obs = _explore(env, obs, explorer, replay, acting)
        if done == warmup:
            acting.standardiser = _restandardised(replay)
        if done > warmup:
            td3.step(state, replay.sample(config.batch, state.rng), config)
        told: dict[str, Any] = {}
        if done in looks:
            told = {"return": _evaluated(env, acting)}
            obs = env.reset()
            weights = {k: v.clone() for k, v in state.actor.state_dict().items()}
            seen.append((told["return"], weights))
        if on_step is not None:
            on_step(done, told)
    return _levels(seen, _evaluated(env, uniform), acting)


def noisy(policy: Policy, env: BatchEnv, std: float, rng: np.random.Generator) -> Policy:
    """A policy with Gaussian noise, in units of half the action box, clipped to the box."""
    half = (env.high - env.low) / 2

    def act(obs: Floats) -> Floats:
        action = policy(obs)
        noise = std * half * rng.normal(size=action.shape)
        return np.clip(action + noise, env.low, env.high).astype(np.float32)

    return act


def save_levels(levels: Levels, folder: Path, env: str) -> None:
    """Write one policy per level, and what they are of."""
    for name, policy in levels.policies.items():
        save_policy(policy, folder / name)
    write_json(folder / _INDEX, {"env": env, "returns": levels.returns})


def load_levels(folder: Path, env: str) -> Levels:
    """Read what `save_levels` wrote.

    Raises:
        DataError: if there is nothing of that kind.
        ConfigError: if the policies are of another environment.
        CheckpointError: if a policy is damaged.
    """
    index = read_json(folder / _INDEX)
    if index.get("env") != env:
        raise ConfigError(
            f"the policies in {folder} are of {index.get('env')!r}, not of env {env!r}"
        )
    returns = {str(name): float(value) for name, value in index["returns"].items()}
    names = [name for name in returns if name != "random"]
    return Levels({name: load_policy(folder / name) for name in names}, returns)


def _explore(
    env: BatchEnv, obs: Floats, policy: Policy, replay: Replay, maps: ActorPolicy
) -> Floats:
    action = policy(obs)
    step = env.step(action)
    replay.add(
        maps.standardiser(torch.from_numpy(obs)),
        maps.action_map.to_unit(torch.from_numpy(action)),
        torch.from_numpy(step.reward),
        maps.standardiser(torch.from_numpy(step.next_obs)),
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


def _levels(seen: list[tuple[float, dict[str, Any]]], chance: float, shape: ActorPolicy) -> Levels:
    best = max(range(len(seen)), key=lambda i: seen[i][0])
    half = chance + (seen[best][0] - chance) / 2
    medium = next(i for i in range(len(seen)) if seen[i][0] >= half or i == best)
    chosen = {"medium": medium, "expert": best}
    return Levels(
        {name: _copied(shape, seen[i][1]) for name, i in chosen.items()},
        {"random": chance} | {name: seen[i][0] for name, i in chosen.items()},
    )


def _copied(shape: ActorPolicy, weights: dict[str, Any]) -> ActorPolicy:
    policy = copy.deepcopy(shape)
    policy.actor.load_state_dict(weights)
    return policy
