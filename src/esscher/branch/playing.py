"""Training solves: a policy that explores and remembers, and what it brings back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from esscher.branch.callback import Limits
from esscher.branch.focus import Focus
from esscher.branch.graphs import FeatureSet
from esscher.branch.learners.imitation import Sample, usable
from esscher.branch.network import BipartiteNetwork, NetworkConfig
from esscher.branch.observation.base import Observation, Observer
from esscher.branch.observation.observer import NodeObserver, make_observer
from esscher.branch.policies import Pseudocost
from esscher.branch.problems import Problem
from esscher.branch.recorder import Recorder
from esscher.branch.serving import Scorer
from esscher.branch.settings import configure
from esscher.branch.solve import SolveResult, solve
from esscher.branch.strong import strong_scores
from esscher.branch.tree import SearchTree
from esscher.kit.runs.seeds import Streams

__all__ = ["Asking", "Draws", "Episode", "Exploring", "PlayTask", "Setting", "play"]

Draws = Literal["greedy", "softmax", "expert"]
"""Where decisions come from while training."""


class Episode(NamedTuple):
    """What a training solve brings back.

    Attributes:
        number: of the instance.
        status: of the solve.
        nodes: of the tree.
        decisions: D.
        observations: of the D decisions, or of those the expert took.
        chosen: [D] positions of the candidates chosen.
        scores: the expert's, of each observation; empty without an expert.
        tree: the record; None with an expert.
    """

    number: int
    status: str
    nodes: int
    decisions: int
    observations: list[Observation]
    chosen: NDArray[np.int64]
    scores: list[NDArray[np.float64]]
    tree: SearchTree | None


@dataclass(frozen=True)
class Setting:
    """What all training solves have in common."""

    network: NetworkConfig
    """Architecture, with the features to observe."""
    settings: str
    """SCIP's parameters."""
    selector: str
    """Node selection."""
    max_decisions: int
    """Where a solve is stopped."""
    seed: int
    """Of exploration."""
    draws: Draws
    """The best candidate but with chance ε; the network's softmax; an expert with chance ε."""


@dataclass(frozen=True)
class PlayTask:
    """One training solve."""

    setting: Setting
    """What all have in common."""
    problem: Problem
    """The instance."""
    number: int
    """Of it in training, which with the seed settles all random numbers."""
    chance: float
    """ε."""
    weights: dict[str, torch.Tensor]
    """Of the network; empty with an expert."""


class Exploring:
    """Follows a network's scores but for random decisions, and remembers all.

    Args:
        score: of an observation's candidates, [K].
        observer: of nodes.
        chance: of a uniform candidate; with `softmax` the decision is drawn anyway.
        rng: of the draws.
        softmax: draw in proportion to the exponential of the scores.
    """

    def __init__(
        self,
        score: Callable[[Observation], NDArray[np.float32]],
        observer: Observer,
        chance: float,
        rng: np.random.Generator,
        *,
        softmax: bool = False,
    ) -> None:
        self._score, self._observer, self._chance = score, observer, chance
        self._rng, self._softmax = rng, softmax
        self.observations: list[Observation] = []
        self.chosen: list[int] = []

    def begin(self, model: Any) -> None:
        """A solve begins."""
        self._observer.begin(model)

    def choose(self, focus: Focus) -> int:
        """Position among the candidates."""
        seen = self._observer.observe(focus)
        count = len(seen.candidates)
        if self._softmax:
            score = self._score(seen).astype(np.float64)
            share = np.exp(score - score.max())
            place = int(self._rng.choice(count, p=share / share.sum()))
        elif self._rng.random() < self._chance:
            place = int(self._rng.integers(count))
        else:
            place = int(np.argmax(self._score(seen)))
        self.observations.append(seen)
        self.chosen.append(place)
        return place


class Asking:
    """Asks strong branching now and then, follows it there, and remembers what it said.

    Pseudocosts decide elsewhere, so that the expert is seen at nodes of ordinary trees.

    Args:
        observer: of nodes.
        chance: of asking.
        rng: of it.
    """

    def __init__(self, observer: Observer, chance: float, rng: np.random.Generator) -> None:
        self._observer, self._chance, self._rng = observer, chance, rng
        self._other = Pseudocost()
        self._first = True
        self.samples: list[Sample] = []

    def begin(self, model: Any) -> None:
        """A solve begins."""
        self._observer.begin(model)
        self._first = True

    def choose(self, focus: Focus) -> int:
        """Position among the candidates."""
        asked = bool(self._rng.random() < self._chance)
        # Tree features compare with the first decision, which is therefore always observed.
        seen = self._observer.observe(focus) if asked or self._first else None
        self._first = False
        if not asked or seen is None:
            return self._other.choose(focus)
        sample = Sample(seen, strong_scores(focus).score)
        if usable(sample) and len(sample.scores) > 1:
            self.samples.append(sample)
        return int(np.argmax(sample.scores))


def play(task: PlayTask) -> Episode:
    """Solve one training instance; a pure function of the task."""
    setting, number = task.setting, task.number
    rng = Streams(setting.seed).numpy("playing", number)
    model = task.problem.model()
    configure(model, setting.settings, selector=setting.selector, seed=number)
    observer = _observer(setting.network.features)
    limits = Limits(max_decisions=setting.max_decisions, stop=True)
    if setting.draws == "expert":
        asking = Asking(observer, task.chance, rng)
        result = solve(model, asking, limits=limits)
        observations = [sample.observation for sample in asking.samples]
        scores = [sample.scores for sample in asking.samples]
        return _episode(number, result, observations, [], scores)
    scorer = _scorer(setting.network, task.weights)
    softmax = setting.draws == "softmax"
    exploring = Exploring(scorer.scores, observer, task.chance, rng, softmax=softmax)
    result = solve(model, exploring, limits=limits, recorder=Recorder())
    return _episode(number, result, exploring.observations, exploring.chosen, [])


@functools.cache
def _observer(features: FeatureSet) -> NodeObserver:
    """One for all solves of a process: the first node it sees is read twice, to check it."""
    return make_observer(features)


def _scorer(config: NetworkConfig, weights: dict[str, torch.Tensor]) -> Scorer:
    network = BipartiteNetwork(config, rng=torch.Generator())
    network.load_state_dict(weights)
    return Scorer(network)


def _episode(
    number: int,
    result: SolveResult,
    observations: list[Observation],
    chosen: list[int],
    scores: list[NDArray[np.float64]],
) -> Episode:
    places = np.array(chosen, dtype=np.int64)
    return Episode(
        number, result.status, result.nodes, result.decisions, observations, places, scores,
        result.tree,
    )  # fmt: skip
