"""Learners on logged tasks: Pendulum and MuJoCo, mixed logs of random, medium and expert policies.

A score is 100 for the expert's return without noise, 0 for the random policy's; it is that of the
mean of the last three evaluations. Behaviour policies are trained once and kept in a folder for
temporary files, so that a second call only logs and fits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _harness import Numbers, interval, note, single

from esscher.core.estimate import Estimate
from esscher.kit.rl.evaluate import last_k_mean, normalised_score, seed_estimate
from esscher.kit.rl.gym_adapters import make_gym
from esscher.kit.rl.rollout import random_policy, rollout
from esscher.offline.behaviour import load_levels
from esscher.offline.collect import collect
from esscher.offline.config import configuration
from esscher.offline.data import MixedDataset
from esscher.offline.options import CollectOptions
from esscher.offline.prepare import prepare
from esscher.offline.training import train

KEPT = Path(tempfile.gettempdir()) / "esscher-offline"
REFERENCE_EPISODES = 50
LOOKS = 10
Scale = tuple[float, float]


@dataclass(frozen=True)
class Task:
    """A task, how its behaviour policies are trained, and what learners are given.

    Attributes:
        env: as gymnasium names it.
        training: settings of `CollectOptions`.
        mixes: transitions of each level, by name of the mix.
        size: settings of every learner.
        methods: learners by name.
        alphas: scales of Q, of which each learner with a critic is given all.
    """

    env: str
    training: Mapping[str, Any]
    mixes: Mapping[str, Mapping[str, int]]
    size: Mapping[str, Any]
    methods: Sequence[str] = ("bc", "td3_bc", "td3_rkl")
    alphas: Sequence[float] = (2.5,)

    @property
    def folder(self) -> Path:
        """Of the behaviour policies; of another training in another folder."""
        return KEPT / f"{self.env}-{self.training['train_steps']}"


PENDULUM = Task(
    "Pendulum-v1",
    {"train_steps": 20_000},
    {"mixed": {"random": 30_000, "medium": 15_000, "expert": 15_000}},
    {"steps": 20_000, "td3__width": 256, "density__width": 256, "density__steps": 10_000},
    alphas=(2.5, 10.0),
)
QUICK_PENDULUM = replace(
    PENDULUM,
    training={"train_steps": 8000},
    mixes={"mixed": {"random": 6000, "medium": 3000, "expert": 3000}},
    size={"steps": 4000, "td3__width": 64, "density__width": 64, "density__steps": 1500},
    alphas=(2.5,),
)
_MUJOCO: dict[str, Any] = {
    "mixes": {f"{x} %": {"random": 1000 * (100 - x), "expert": 1000 * x} for x in (10, 50)},
    "size": {
        "steps": 50_000, "td3__width": 128, "density__width": 128, "density__steps": 5000,
    },
    "methods": ("td3_bc", "td3_rkl"),
    "alphas": (2.5, 10.0),
}  # fmt: skip
CHEETAH = Task("HalfCheetah-v5", {"train_steps": 150_000}, **_MUJOCO)
HOPPER = Task(
    "Hopper-v5", {"train_steps": 300_000, "width": 256, "batch": 256, "lr": 3e-4}, **_MUJOCO
)


def logged_tasks(quick: bool) -> Numbers:
    """Scores of every task; quick ones of a smaller Pendulum and one seed."""
    if quick:
        return task_scores(QUICK_PENDULUM, range(1))
    numbers: Numbers = {}
    for task in (PENDULUM, CHEETAH, HOPPER):
        numbers |= task_scores(task, range(3))
    return numbers


def task_scores(task: Task, seeds: Iterable[int]) -> Numbers:
    """Score per mix and method, over seeds."""
    parts, scale = logs(task), references(task)
    numbers: Numbers = {}
    best: dict[str, list[float]] = {}
    for name, mix in task.mixes.items():
        found: dict[str, list[float]] = {}
        for seed in seeds:
            dataset = mixed(parts, mix, seed)
            for method, score in scores(task, dataset, seed, scale).items():
                found.setdefault(method, []).append(score)
        for method, values in found.items():
            estimate = seed_estimate(values)
            if len(values) == 1:
                estimate = Estimate(estimate.mean, 0.0, 1)
            numbers[f"{task.env} {name}, {method}: score"] = interval(estimate)
        for method in task.methods:
            means = [np.mean(v) for label, v in found.items() if label.split(",")[0] == method]
            best.setdefault(method, []).append(float(max(means)))
    if len(task.alphas) > 1:
        ratio = sum(best["td3_rkl"]) / sum(best["td3_bc"])
        numbers[f"{task.env}, td3_rkl / td3_bc, each at its better alpha: score"] = single(ratio)
    return numbers


def logs(task: Task) -> dict[str, MixedDataset]:
    """A data set per level, with as many transitions as the largest mix takes."""
    found = {}
    # The random policy comes last: the first call trains, and it alone would not.
    for level in sorted({level for mix in task.mixes.values() for level in mix}):
        most = max(mix.get(level, 0) for mix in task.mixes.values())
        kept = task.folder if (task.folder / "levels.json").exists() else None
        settings = dict(task.training) | {"transitions": most, "policies": kept}
        options = CollectOptions(env=task.env, levels=(level,), **settings)
        found[level] = collect(options, task.folder, say=note)
    return found


def references(task: Task) -> Scale:
    """Mean returns of the random policy and of the expert without noise."""
    env = make_gym(task.env, 10, seed=99)
    expert = load_levels(task.folder, task.env).policies["expert"]
    chance = random_policy(env, np.random.default_rng(99))
    low, high = (
        float(rollout(env, policy, REFERENCE_EPISODES).returns()[0].mean())
        for policy in (chance, expert)
    )
    return low, high


def mixed(parts: Mapping[str, MixedDataset], mix: Mapping[str, int], seed: int) -> MixedDataset:
    """The data set of one seed."""
    return MixedDataset.mix([(parts[level], count) for level, count in mix.items()], seed=seed)


def scores(task: Task, dataset: MixedDataset, seed: int, scale: Scale) -> dict[str, float]:
    """Score per method and scale of Q; all of them share one prepared data set."""
    configs = {}
    for name in task.methods:
        alphas = task.alphas[:1] if name == "bc" else task.alphas
        for alpha in alphas:
            label = f"{name}, alpha {alpha:g}" if len(alphas) > 1 else name
            configs[label] = configuration(name, **task.size, alpha=alpha)
    order = sorted(configs.values(), key=lambda c: (c.needs_density, c.weight == "entropy"))
    data = prepare(order[-1], dataset, seed)
    found = {}
    for name, config in configs.items():
        result = train(config, data, seed=seed, evaluate=lambda p: evaluated(task.env, p, seed))
        value = last_k_mean([row["return"] for row in result.history], 3)
        found[name] = normalised_score(value, *scale)
        note(f"  {task.env}, seed {seed}, {name}: {found[name]:.1f}")
    return found


def evaluated(env: str, policy: Any, seed: int) -> dict[str, float]:
    """Mean return of ten episodes."""
    copies = make_gym(env, 10, seed=1000 + seed)
    return {"return": float(rollout(copies, policy, 10).returns()[0].mean())}
