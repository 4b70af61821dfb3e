"""A network as a branching policy, and in a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from esscher.branch.focus import Focus
from esscher.branch.graphs import FeatureSet
from esscher.branch.network import BipartiteNetwork, NetworkConfig
from esscher.branch.observation.base import Observer
from esscher.branch.serving import Scorer
from esscher.errors import CheckpointError
from esscher.kit.runs.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["GraphPolicy", "load_network", "load_policy", "save_policy"]


class GraphPolicy:
    """Branches on the candidate of the greatest score, the first of equals; a `focus.Policy`.

    Args:
        scorer: of the network.
        observer: takes the features the network wants.
    """

    def __init__(self, scorer: Scorer, observer: Observer) -> None:
        self.scorer, self.observer = scorer, observer

    def begin(self, model: Any) -> None:
        """A solve begins."""
        self.observer.begin(model)

    def choose(self, focus: Focus) -> int:
        """Position of the best candidate; a single one is taken without asking the network."""
        if len(focus.variables) == 1 and focus.step > 0:
            return 0
        # The first decision is observed always: later features compare with its bounds.
        seen = self.observer.observe(focus)
        return 0 if len(focus.variables) == 1 else int(np.argmax(self.scorer.scores(seen)))


def save_policy(network: BipartiteNetwork, folder: Path, step: int = 0) -> Path:
    """Write weights (safetensors) and architecture (JSON); see `save_checkpoint` for faults."""
    state = {"network": asdict(network.config)}
    return save_checkpoint(folder, step, network.state_dict(), state, keep=1)


def load_network(folder: Path) -> BipartiteNetwork:
    """Read what `save_policy` wrote.

    Raises:
        CheckpointError: if there is no such policy, or it is damaged.
    """
    saved = load_checkpoint(folder)
    try:
        config = NetworkConfig(**saved.state["network"])
        network = BipartiteNetwork(config, rng=torch.Generator())
        network.load_state_dict(saved.tensors)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder} does not hold a branching policy: {error}") from error
    return network


def load_policy(folder: Path, observer_of: Callable[[FeatureSet], Observer]) -> GraphPolicy:
    """The policy in a folder, ready to branch.

    Args:
        folder: where `save_policy` wrote.
        observer_of: makes the observer of a feature set.

    Raises:
        CheckpointError: if there is no such policy, or it is damaged.
    """
    network = load_network(folder)
    return GraphPolicy(Scorer(network), observer_of(network.config.features))
