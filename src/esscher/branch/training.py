"""The training loop: play, learn, measure, remember the best."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from esscher.branch.config import Budget, TrainConfig
from esscher.branch.graph_policy import GraphPolicy, save_policy
from esscher.branch.imitating import ImitationTrainer
from esscher.branch.measuring import detached, measured, policy_of, rebuilt
from esscher.branch.network import BipartiteNetwork
from esscher.branch.playing import Draws, Episode, PlayTask, Setting, play
from esscher.branch.problems import Drawn, Problem, problems_of
from esscher.branch.trainer import Trainer
from esscher.branch.trainers import make_trainer
from esscher.errors import ConfigError
from esscher.kit.runs.folder import Run
from esscher.kit.runs.history import log_row, resume_run
from esscher.kit.runs.seeds import Streams
from esscher.kit.scale.pool import Pool, SerialPool

__all__ = ["POLICY", "FitResult", "fit"]

POLICY = "policy"
"""Folder of a run that holds the policy which measured best."""
IDLE = 50
"""Instances in a row without a decision, after which training is given up."""
LOOKS = 10

T = TypeVar("T")
R = TypeVar("R")
Said = Callable[[dict[str, Any]], None]
Instances = Callable[[int], Problem]


@dataclass(frozen=True)
class FitResult:
    """What a fit gives.

    Attributes:
        network: of the best measurement.
        history: rows of what was logged; "step" counts training instances.
    """

    network: BipartiteNetwork
    history: list[dict[str, Any]]

    def policy(self) -> GraphPolicy:
        """The best network as a branching policy."""
        return policy_of(self.network)


def fit(
    config: TrainConfig,
    *,
    seed: int = 0,
    run: Run | None = None,
    pool: Pool | None = None,
    on_row: Said | None = None,
    on_episode: Callable[[int, float], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FitResult:
    """Learn to branch.

    With several workers a round of instances is solved by the policy as it was a round ago, while
    the last round is learnt from; results depend on the number of workers, and with a budget of
    episodes on nothing else but the seed.

    Args:
        config: what is learnt, from what, and for how long.
        seed: one integer for every random number.
        run: gets metrics, checkpoints and the best policy; a fit of a run that has some goes on
            from there.
        pool: solves the training instances; in this process if None.
        on_row: called with every row of the history.
        on_episode: called with training instances solved and the share of the budget used.
        clock: seconds.

    Raises:
        ConfigError: if fifty instances in a row need no branching.
        NumericsError: if a loss is not finite.
    """
    shared = _OneAtATime(SerialPool() if pool is None else pool)
    train, held_out = _instances(config, seed)
    loop = _Loop(config, seed, held_out, run=run, pool=shared, on_row=on_row, clock=clock)
    loop.begin()
    trainer = loop.trainer
    draws: Draws = {"imitation": "expert", "tmdp": "softmax"}.get(config.method, "greedy")  # type: ignore[assignment]
    setting = _setting(config, seed, draws)
    imitates = isinstance(trainer, ImitationTrainer)
    for episode in _played(setting, train, loop, shared):
        loop.note(episode, trainer.take(episode, loop.progress))
        if on_episode is not None:
            on_episode(loop.episodes, loop.progress)
        if loop.due and not imitates:
            loop.look()
    if isinstance(trainer, ImitationTrainer):
        _fitted(trainer, loop, on_episode)
    return loop.end()


def _fitted(
    trainer: ImitationTrainer, loop: _Loop, on_episode: Callable[[int, float], None] | None
) -> None:
    """Epochs until the held-out loss stays, or the time is over."""
    while not trainer.ended and loop.spent < loop.config.budget.minutes:
        loop.sum(trainer.epoch())
        if on_episode is not None:
            on_episode(loop.episodes, loop.progress)
        if loop.due:
            loop.look()
    trainer.take_best()


class _OneAtATime:
    """A pool whose calls from several threads wait for one another."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._lock = pool, threading.Lock()
        self.workers = pool.workers

    def map(self, function: Callable[[T], R], batches: Sequence[T]) -> list[R]:
        """As of the pool."""
        with self._lock:
            return self._pool.map(function, batches)


class _Loop:
    """Budget, measurements, checkpoints and the best network of a fit."""

    def __init__(
        self,
        config: TrainConfig,
        seed: int,
        held_out: Sequence[Problem],
        *,
        run: Run | None,
        pool: _OneAtATime,
        on_row: Said | None,
        clock: Callable[[], float],
    ) -> None:
        self.config, self.seed, self.held_out = config, seed, held_out
        self.run, self.pool, self.on_row, self.clock = run, pool, on_row, clock
        self.trainer: Trainer = make_trainer(config, seed)
        self.history: list[dict[str, Any]] = []
        self.episodes = self.decisions = 0
        self.best, self.best_score = detached(self.trainer.served), math.inf
        self._spent, self._since = 0.0, 0.0
        self._next = self._started = 0.0
        self._idle = 0
        self._sums: dict[str, list[float]] = {}

    def begin(self) -> None:
        """Take up a run's state, or measure the network as it is."""
        saved, self.history = resume_run(self.run, self.state_dict())
        if saved is not None:
            self.load_state_dict(saved)
        self._started = self.clock()
        if not self.history:
            self.look()

    @property
    def spent(self) -> float:
        """Minutes so far, also those before a resume."""
        return self._spent + (self.clock() - self._started) / 60

    @property
    def step(self) -> int:
        """Training instances, and epochs of imitation."""
        return self.episodes + getattr(self.trainer, "epochs", 0)

    @property
    def progress(self) -> float:
        """Share of the budget that is used, at most 1."""
        budget = self.config.budget
        shares = [self.spent / budget.minutes]
        if budget.episodes is not None:
            shares.append(self.episodes / budget.episodes)
        return min(1.0, max(shares))

    @property
    def playing(self) -> bool:
        """Whether more episodes are wanted."""
        if isinstance(self.trainer, ImitationTrainer) and self.trainer.gathered(self.progress):
            return False
        return self.progress < 1

    @property
    def due(self) -> bool:
        """Whether it is time for a measurement."""
        return self._place() >= self._next

    def note(self, episode: Episode, seen: dict[str, float]) -> None:
        """Count an episode.

        Raises:
            ConfigError: if it is one of many in a row without a decision.
        """
        self.episodes += 1
        self.decisions += episode.decisions
        self._idle = self._idle + 1 if episode.decisions == 0 else 0
        if self._idle >= IDLE:
            raise ConfigError(
                f"{IDLE} instances in a row of {self.config.problem} needed no branching; take "
                "harder ones, or plainer SCIP settings"
            )
        self.sum(seen | {"train_decisions": float(episode.decisions)})

    def sum(self, seen: dict[str, float]) -> None:
        """Add to the means of the next row."""
        for name, value in seen.items():
            self._sums.setdefault(name, []).append(value)

    def look(self) -> None:
        """Measure the network on held-out instances, and save."""
        budget = self.config.budget
        log_nodes, nodes = measured(
            self.trainer.served, self.held_out, self.config.settings, self.pool
        )
        if nodes < self.best_score:
            self.best, self.best_score = detached(self.trainer.served), nodes
        row: dict[str, Any] = {name: float(np.mean(v)) for name, v in self._sums.items()}
        row |= {
            "nodes_gmean": nodes,
            "log2_nodes": log_nodes,
            "minutes": self.spent,
            "decisions": self.decisions,
            "updates": self.trainer.updates,
        }
        self._sums = {}
        self._next = self._place() + (1.0 if budget.episodes else budget.every)
        log_row(self.history, self.run, self.step, row)
        if self.run is not None:
            self.run.save(self.step, self.state_dict(), keep=1)
            save_policy(rebuilt(self.config.network, self.best), self.run.path / POLICY)
        if self.on_row is not None:
            self.on_row(self.history[-1])

    def end(self) -> FitResult:
        """The last measurement, and the best network."""
        if self.history[-1]["step"] != self.step:
            self.look()
        return FitResult(rebuilt(self.config.network, self.best), self.history)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next episode needs."""
        return {
            "trainer": self.trainer.state_dict(),
            "best": self.best,
            "best_score": self.best_score if math.isfinite(self.best_score) else None,
            "episodes": self.episodes,
            "decisions": self.decisions,
            "minutes": self.spent if self._started else 0.0,
            "next": self._next,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.trainer.load_state_dict(saved["trainer"])
        self.best = saved["best"]
        self.best_score = math.inf if saved["best_score"] is None else saved["best_score"]
        self.episodes, self.decisions = int(saved["episodes"]), int(saved["decisions"])
        self._spent, self._next = float(saved["minutes"]), float(saved["next"])

    def _place(self) -> float:
        """Where the fit is, in the units of measurements: minutes, or tenths of the episodes."""
        budget: Budget = self.config.budget
        if budget.episodes is None:
            return self.spent
        return math.floor(self.episodes * LOOKS / budget.episodes)


def _played(
    setting: Setting, train: Instances, loop: _Loop, pool: _OneAtATime
) -> Iterator[Episode]:
    """Training episodes until the budget is used.

    With one worker each is played by the network as it is. With several, a round is played while
    the round before is learnt from.
    """
    if pool.workers == 1:
        while loop.playing:
            yield from pool.map(play, _tasks(setting, train, loop, [loop.episodes]))
        return
    with ThreadPoolExecutor(1) as side:
        first = loop.episodes
        coming = side.submit(
            pool.map, play, _tasks(setting, train, loop, range(first, first + pool.workers))
        )
        while loop.playing:
            episodes = coming.result()
            first += len(episodes)
            numbers = range(first, first + pool.workers)
            coming = side.submit(pool.map, play, _tasks(setting, train, loop, numbers))
            for episode in episodes:
                if loop.playing:
                    yield episode
        coming.result()


def _tasks(
    setting: Setting, train: Instances, loop: _Loop, numbers: Sequence[int]
) -> list[PlayTask]:
    explore = loop.config.exploration
    share = min(1.0, loop.progress / explore.until)
    chance = explore.first + share * (explore.last - explore.first)
    if setting.draws == "expert":
        chance = loop.config.imitation.chance
    weights = detached(loop.trainer.network)
    return [PlayTask(setting, train(i), i, chance, weights) for i in numbers]


def _instances(config: TrainConfig, seed: int) -> tuple[Instances, list[Problem]]:
    """Training instances of this seed, and those all seeds are measured on.

    Of files, every third is kept for measuring.
    """
    found = problems_of(config.problem)
    first = found[0]
    if isinstance(first, Drawn):
        kind = first.kind
        stream = TRAINING + int(Streams(seed).numpy("training instances").integers(2**31))
        held: list[Problem] = [Drawn(kind, VALIDATION, i) for i in range(config.budget.validation)]
        return lambda i: Drawn(kind, stream, i), held
    if len(found) < 6:
        raise ConfigError(
            f"{config.problem} holds {len(found)} instances; training needs 6 at least, of which "
            "a third is held out"
        )
    held_out = found[::3][: config.budget.validation]
    train = [problem for i, problem in enumerate(found) if i % 3]
    return lambda i: train[i % len(train)], held_out


TRAINING, VALIDATION = 2**32, 2**33
"""Seeds of streams: apart from those that people evaluate on."""


def _setting(config: TrainConfig, seed: int, draws: Draws) -> Setting:
    return Setting(
        config.network, config.settings, config.selector, config.budget.max_decisions, seed, draws
    )
