"""One loop for every learner: steps, evaluations, checkpoints that continue bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from esscher.kit.rl.policy import ActorPolicy
from esscher.kit.runs.folder import Run
from esscher.kit.runs.history import log_row, resume_run
from esscher.offline.config import OfflineConfig, configuration
from esscher.offline.cql import ConservativeQ
from esscher.offline.data import MixedDataset
from esscher.offline.densities.base import BehaviourDensity
from esscher.offline.iql import ImplicitQ
from esscher.offline.learners import Cloning, Learner, TD3Offline
from esscher.offline.prepare import Prepared, prepare

__all__ = ["FitResult", "fit", "make_learner", "train"]

Evaluate = Callable[[ActorPolicy], dict[str, Any]]


@dataclass(frozen=True)
class FitResult:
    """What a fit gives.

    Attributes:
        policy: acts in the environment's units; holds the statistics it was trained under.
        history: rows of what was logged, each with its step.
        data: the prepared data set, with the behaviour density.
        learner: as training left it.
    """

    policy: ActorPolicy
    history: list[dict[str, Any]]
    data: Prepared
    learner: Learner


def fit(
    config: OfflineConfig | str,
    dataset: MixedDataset,
    *,
    seed: int = 0,
    run: Run | None = None,
    evaluate: Evaluate | None = None,
    every: int | None = None,
    density: BehaviourDensity | None = None,
    on_step: Callable[[int, dict[str, Any]], None] | None = None,
) -> FitResult:
    """Learn a policy from a data set.

    Args:
        config: a configuration, or its name.
        dataset: what is learnt from.
        seed: one integer for every random number.
        run: gets metrics and checkpoints; a fit of a run that has some continues from there, bit
            for bit as if it had not been stopped.
        evaluate: measures a policy; called every `every` steps and at the end.
        every: steps between rows; a tenth of all by default.
        density: taken instead of a fitted one.
        on_step: called with the step and what it saw.

    Raises:
        ConfigError: if the configuration does not fit the data.
        NumericsError: if a loss is not finite.
    """
    config = configuration(config) if isinstance(config, str) else config
    data = prepare(config, dataset, seed, density=density)
    return train(config, data, seed=seed, run=run, evaluate=evaluate, every=every, on_step=on_step)


def train(
    config: OfflineConfig,
    data: Prepared,
    *,
    seed: int = 0,
    run: Run | None = None,
    evaluate: Evaluate | None = None,
    every: int | None = None,
    on_step: Callable[[int, dict[str, Any]], None] | None = None,
) -> FitResult:
    """As `fit`, of data that are prepared."""
    learner = make_learner(config, data, seed)
    policy = ActorPolicy(learner.actor, data.standardiser, data.action_map)
    saved, history = resume_run(run, learner.state_dict())
    if saved is not None:
        learner.load_state_dict(saved)
    every = every or max(1, config.steps // 10)
    sums: dict[str, list[float]] = {}
    while learner.done < config.steps:
        seen = learner.step()
        for name, value in seen.items():
            if value is not None:
                sums.setdefault(name, []).append(value)
        done = learner.done
        if done % every == 0 or done == config.steps:
            row: dict[str, Any] = {name: sum(v) / len(v) for name, v in sums.items()}
            row |= {} if evaluate is None else evaluate(policy)
            sums = {}
            log_row(history, run, done, row)
            if run is not None:
                run.save(done, learner.state_dict())
        if on_step is not None:
            on_step(done, seen)
    return FitResult(policy, history, data, learner)


def make_learner(config: OfflineConfig, data: Prepared, seed: int) -> Learner:
    """The learner a configuration names, at its start."""
    kinds: dict[str, Callable[[OfflineConfig, Prepared, int], Learner]] = {
        "td3": TD3Offline,
        "bc": Cloning,
        "iql": ImplicitQ,
        "cql": ConservativeQ,
    }
    return kinds[config.algorithm](config, data, seed)
