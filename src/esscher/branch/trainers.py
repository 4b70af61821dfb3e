"""What learners do with an episode: from a search tree to gradient steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from esscher.branch.config import TrainConfig
from esscher.branch.imitating import ImitationTrainer
from esscher.branch.learners import dqn, reinforce
from esscher.branch.learners.state import LearnerState
from esscher.branch.memory import Memory
from esscher.branch.network import BipartiteNetwork
from esscher.branch.playing import Episode
from esscher.branch.priorities import Priorities
from esscher.branch.returns import (
    Transitions,
    path_length_transitions,
    path_transitions,
    size_targets,
    temporal_transitions,
)
from esscher.branch.trainer import StateTrainer, Trainer
from esscher.branch.trajectories import trajectories
from esscher.branch.tree import SearchTree
from esscher.kit.runs.seeds import Streams, rng_state, set_rng_state

__all__ = ["GradientTrainer", "QTrainer", "make_trainer", "transitions_of"]


class QTrainer(StateTrainer[dqn.DQNState]):
    """Q-learning from a memory of transitions, and the regression of FMSTS.

    Args:
        config: with one of their methods.
        seed: of everything random.
    """

    def __init__(self, config: TrainConfig, seed: int) -> None:
        streams = Streams(seed)
        self.config = config
        super().__init__(dqn.init(config.network, config.dqn, streams))
        settings = config.exploration
        priorities = Priorities() if settings.prioritised else None
        self.memory = Memory(settings.capacity, half=True, priorities=priorities)
        self._paths = streams.numpy("paths")
        self._owed = 0

    @property
    def served(self) -> BipartiteNetwork:
        """The slow copy: its decisions change less from step to step."""
        return self.state.target

    def take(self, episode: Episode, progress: float) -> dict[str, float]:
        """Remember an episode, and take the gradient steps it is worth."""
        if episode.decisions == 0 or episode.tree is None:
            return {}
        found = transitions_of(self.config, episode.tree, self._paths)
        self.memory.extend(
            episode.observations,
            episode.chosen,
            decision=found.decision,
            reward=found.reward,
            successor=found.next_decision,
            discount=found.discount,
        )
        settings = self.config.exploration
        if len(self.memory) < settings.warm_up:
            return {}
        self._owed += len(found.decision)
        steps, self._owed = divmod(self._owed, settings.per_step)
        lr = self.config.dqn.lr * settings.lr_last**progress
        config = replace(self.config.dqn, lr=lr)
        infos = [self._step(config) for _ in range(steps)]
        return {
            name: float(np.mean([getattr(info, name) for info in infos]))
            for name in ("loss", "q", "target")
            if infos
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything the next episode needs, the memory included."""
        return {
            "learner": self.state.state_dict(),
            "memory": self.memory.state_dict(),
            "paths": rng_state(self._paths),
            "owed": self._owed,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.state.load_state_dict(saved["learner"])
        self.memory.load_state_dict(saved["memory"])
        set_rng_state(self._paths, saved["paths"])
        self._owed = int(saved["owed"])

    def _step(self, config: dqn.DQNConfig) -> dqn.DQNInfo:
        state = self.state
        features = self.config.network.features
        batch = self.memory.sample(config.batch, state.rng, features, updates=state.done)
        info = dqn.step(state, batch, config)
        self.memory.update(batch.spot, info.error)
        return info


class GradientTrainer(StateTrainer[LearnerState]):
    """REINFORCE in the tree Markov decision process, one step an episode.

    Args:
        config: with the method "tmdp".
        seed: of everything random.
    """

    def __init__(self, config: TrainConfig, seed: int) -> None:
        self.config = config
        super().__init__(reinforce.init(config.network, config.reinforce, Streams(seed)))

    def take(self, episode: Episode, progress: float) -> dict[str, float]:
        """One step on a sample of the episode's decisions."""
        if episode.decisions == 0 or episode.tree is None:
            return {}
        targets = size_targets(episode.tree, count="nodes")
        picked = reinforce.draw(len(targets.decision), self.config.reinforce, self.state.rng)
        decisions = [
            reinforce.Decision(
                episode.observations[targets.decision[i]],
                int(episode.chosen[targets.decision[i]]),
                float(targets.value[i]),
            )
            for i in picked.tolist()
        ]
        if not decisions:
            return {}
        lr = self.config.reinforce.lr * self.config.exploration.lr_last**progress
        info = reinforce.step(self.state, decisions, replace(self.config.reinforce, lr=lr))
        return {"loss": info.loss, "gain": info.gain, "entropy": info.entropy}

    def state_dict(self) -> dict[str, Any]:
        """Everything the next episode needs."""
        return self.state.state_dict()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.state.load_state_dict(saved)


def make_trainer(config: TrainConfig, seed: int) -> Trainer:
    """The learner a configuration names, at its start."""
    if config.method == "imitation":
        return ImitationTrainer(config, seed)
    return GradientTrainer(config, seed) if config.method == "tmdp" else QTrainer(config, seed)


def transitions_of(config: TrainConfig, tree: SearchTree, rng: np.random.Generator) -> Transitions:
    """What Q-learning takes from a tree, by the configuration's method."""
    n_step, gamma = config.n_step, config.gamma
    if config.method == "original":
        return temporal_transitions(tree, gamma=gamma, n_step=n_step)
    if config.method == "fmsts_path":
        return path_length_transitions(tree, gamma=gamma, n_step=n_step)
    if config.method == "fmsts":
        targets = size_targets(tree)
        nothing = np.zeros(len(targets.decision))
        return Transitions(
            targets.decision, targets.value, np.full(len(nothing), -1, np.int64), nothing
        )
    paths = trajectories(tree, config.select, rng=rng)
    return path_transitions(tree, paths, gamma=gamma, n_step=n_step)
