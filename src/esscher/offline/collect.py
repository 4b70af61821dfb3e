"""Logs of behaviour policies of several levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from esscher.errors import ConfigError
from esscher.kit.rl.gym_adapters import make_gym
from esscher.kit.rl.policy import Policy
from esscher.kit.rl.rollout import BatchEnv, random_policy, rollout
from esscher.kit.rl.td3 import TD3Config
from esscher.kit.rl.transitions import Episode, Transitions, join_episodes
from esscher.kit.runs.seeds import Streams
from esscher.offline.behaviour import (
    LEVELS,
    Levels,
    load_levels,
    noisy,
    save_levels,
    train_behaviour,
)
from esscher.offline.data import MixedDataset
from esscher.offline.options import CollectOptions
from esscher.offline.problems.point_mass import PointMass, point_mass_data

__all__ = ["collect", "env_of", "log_level"]

COPIES = 10
_POINT_MASS = ("point-mass", "point mass")
Said = Callable[[str], None]


def env_of(name: str, n: int, seed: int) -> BatchEnv:
    """An environment by name: `point-mass`, or what gymnasium has.

    Raises:
        ConfigError: if there is none of that name.
        MissingExtra: if gymnasium is needed and not installed.
    """
    if name in _POINT_MASS:
        return PointMass(n, Streams(seed).numpy("point mass"))
    return make_gym(name, n, seed=seed)


def collect(
    options: CollectOptions,
    keep: Path,
    *,
    say: Said | None = None,
    on_step: Callable[[int, dict[str, Any]], None] | None = None,
) -> MixedDataset:
    """Train behaviour policies, or take those of an earlier call, and log every level wanted.

    Args:
        options: what is wanted.
        keep: folder that policies are written to as soon as they are trained, so that nothing but
            logging has to be done again if it is stopped.
        say: told of every level.
        on_step: called in training, see `train_behaviour`.

    Raises:
        ConfigError: if a level or the environment is unknown, or policies do not fit it.
    """
    unknown = [level for level in options.levels if level not in LEVELS]
    if unknown or not options.levels:
        raise ConfigError(f"levels are {', '.join(LEVELS)}, got {list(options.levels)}")
    if options.env in _POINT_MASS:
        return _point_mass(options)
    levels = _levels_of(options, keep, on_step)
    parts: list[tuple[MixedDataset, int | float]] = []
    for number, level in enumerate(options.levels):
        env = make_gym(options.env, COPIES, seed=options.seed + 1 + number)
        policy = _policy(levels, level, env, options)
        rows = log_level(env, policy, options.episodes, options.transitions)
        env.close()
        low, high = (tuple(map(float, bound)) for bound in (env.low, env.high))
        parts.append((MixedDataset(rows, low, high, (level,), options.env), 1.0))
        if say is not None:
            returns = rows.returns()[0]
            say(
                f"{level}: {len(rows)} transitions in {len(returns)} episodes, mean return "
                f"{returns.mean():.1f}"
            )
    return MixedDataset.mix(parts, by="episodes", seed=options.seed)


def log_level(
    env: BatchEnv, policy: Policy, episodes: int, transitions: int | None = None
) -> Transitions:
    """Whole episodes of a policy.

    Args:
        env: reset here.
        policy: acts in it.
        episodes: how many, where `transitions` is None.
        transitions: log until there are so many at least; the last episode is whole, too.
    """
    if transitions is None:
        return rollout(env, policy, episodes)
    found: list[Episode] = []
    steps = 0
    while steps < transitions:
        # Rounds of equally many episodes per copy: whoever stopped at a step would have more
        # of the short ones.
        mean = steps / len(found) if found else math.inf
        wanted = max(1, math.ceil((transitions - steps) / mean / env.n)) * env.n
        rows = rollout(env, policy, wanted)
        found += rows.episodes()
        steps += len(rows)
    return join_episodes(found)


def _levels_of(
    options: CollectOptions, keep: Path, on_step: Callable[[int, dict[str, Any]], None] | None
) -> Levels:
    if options.policies is not None:
        levels = load_levels(options.policies, options.env)
        save_levels(levels, keep, options.env)
        return levels
    if set(options.levels) == {"random"}:
        return Levels({}, {})
    env = make_gym(options.env, 1, seed=options.seed)
    config = TD3Config(
        lr_actor=options.lr, lr_critic=options.lr, width=options.width, batch=options.batch
    )
    levels = train_behaviour(
        env, options.train_steps, seed=options.seed, config=config, on_step=on_step
    )
    env.close()
    save_levels(levels, keep, options.env)
    return levels


def _policy(levels: Levels, level: str, env: BatchEnv, options: CollectOptions) -> Policy:
    rng = Streams(options.seed).numpy("log", level)
    if level == "random":
        return random_policy(env, rng)
    return noisy(levels.policies[level], env, options.noise, rng)


def _point_mass(options: CollectOptions) -> MixedDataset:
    if options.transitions is not None or options.policies is not None:
        raise ConfigError(
            "the point mass has experts of its own and is logged by --episodes; drop --transitions "
            "and --policies"
        )
    return point_mass_data(2 * options.episodes, options.seed)
