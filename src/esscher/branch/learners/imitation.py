"""Imitation of an expert's scores: cross-entropy over the candidates of a node.

Reference:
    Gasse, Chételat, Ferroni, Charlin, Lodi (2019), "Exact combinatorial optimization with graph
    convolutional neural networks".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from esscher.branch.graphs import GraphBatch, collate
from esscher.branch.learners.state import LearnerState, begin
from esscher.branch.network import BipartiteNetwork, NetworkConfig
from esscher.branch.observation.base import Observation
from esscher.errors import ConfigError, DataError, NumericsError, ShapeError
from esscher.kit.rl.td3 import check_finite
from esscher.kit.runs.seeds import Streams

__all__ = [
    "TOP", "Assessment", "ImitationConfig", "ImitationInfo", "ImitationState", "Sample", "assess",
    "end_epoch", "init", "shuffled", "step", "usable",
]  # fmt: skip

TOP = (1, 3, 5)
"""Numbers of candidates among which the expert's may be."""


class Sample(NamedTuple):
    """A node as the expert saw it.

    Attributes:
        observation: the node.
        scores: [K] the expert's scores of its candidates; the greatest is its choice.
    """

    observation: Observation
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class ImitationConfig:
    """Settings of imitation; those of Gasse et al. (2019) where not said otherwise."""

    lr: float = 1e-3
    """Learning rate at first, > 0."""
    batch: int = 32
    """Samples per step, >= 1."""
    patience: int = 10
    """Epochs without a better validation loss until the rate is lowered, >= 1."""
    factor: float = 0.2
    """By what it is multiplied then, in (0, 1)."""
    stop: int = 20
    """Epochs without a better validation loss until the end, >= 1."""

    def __post_init__(self) -> None:
        for name in ("batch", "patience", "stop"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ImitationConfig.{name} must be >= 1, got {getattr(self, name)}")
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"ImitationConfig.lr must be positive, got {self.lr}")
        if not 0 < self.factor < 1:
            raise ConfigError(f"ImitationConfig.factor must be in (0, 1), got {self.factor}")


class ImitationInfo(NamedTuple):
    """What a step saw.

    Attributes:
        loss: mean cross-entropy in nats.
        accuracy: share of samples whose first choice is the expert's.
    """

    loss: float
    accuracy: float


class Assessment(NamedTuple):
    """How well a network imitates.

    Attributes:
        loss: mean cross-entropy in nats.
        accuracy: by k of `TOP`, share of samples with an expert's choice among the k best scores;
            where the expert scores several highest, each is its choice.
    """

    loss: float
    accuracy: dict[int, float]


@dataclass
class ImitationState(LearnerState):
    """A learner's state, and what is known of its progress on the validation set.

    Attributes:
        lr: learning rate now.
        best_loss: least validation loss.
        waited: epochs since.
        best: weights at that loss.
    """

    lr: float
    best_loss: float
    waited: int
    best: dict[str, Tensor]

    def state_dict(self) -> dict[str, Any]:
        """Everything as nested tensors and numbers."""
        return super().state_dict() | {
            "lr": self.lr,
            # JSON has no infinity, which stands for "none yet".
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "waited": self.waited,
            "best": self.best,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(saved)
        best = saved["best_loss"]
        self.lr, self.waited = float(saved["lr"]), int(saved["waited"])
        self.best_loss = math.inf if best is None else float(best)
        self.best = {name: tensor.clone() for name, tensor in saved["best"].items()}


def init(
    network: NetworkConfig,
    config: ImitationConfig,
    streams: Streams,
    device: torch.device | str = "cpu",
) -> ImitationState:
    """A fresh state.

    Args:
        network: the architecture; its output should be "logit".
        config: settings.
        streams: of initial weights ("network") and sampling ("steps").
        device: where to learn.
    """
    base = begin(network, config.lr, streams, device)
    best = _weights(base.network)
    return ImitationState(base.network, base.optimiser, base.rng, 0, config.lr, math.inf, 0, best)


def step(state: ImitationState, samples: Sequence[Sample]) -> ImitationInfo:
    """One gradient step on a batch.

    Raises:
        DataError: if scores are not finite, or negative.
        NumericsError: if the loss is not finite; the state is then that before the step.
    """
    table, scores = _tables(state.network, samples)
    best = scores.argmax(1)
    loss = functional.cross_entropy(table, best)
    value = check_finite(loss, "cross-entropy", state.done)
    state.rate(state.lr)
    state.optimiser.zero_grad(set_to_none=True)
    state.differentiate(loss)
    state.optimiser.step()
    state.done += 1
    return ImitationInfo(value, _hits(table.detach(), scores, 1) / len(samples))


@torch.no_grad()
def assess(network: BipartiteNetwork, samples: Sequence[Sample], batch: int = 128) -> Assessment:
    """Loss and accuracies on samples that are not learnt from.

    Raises:
        DataError: if there are none.
    """
    if not samples:
        raise DataError("an assessment needs one sample at least")
    loss, hits = 0.0, dict.fromkeys(TOP, 0)
    for i in range(0, len(samples), batch):
        table, scores = _tables(network, samples[i : i + batch])
        loss += float(functional.cross_entropy(table, scores.argmax(1), reduction="sum"))
        for k in TOP:
            hits[k] += _hits(table, scores, k)
    n = len(samples)
    return Assessment(loss / n, {k: hits[k] / n for k in TOP})


def end_epoch(state: ImitationState, loss: float, config: ImitationConfig) -> bool:
    """Take note of a validation loss; lower the rate on a plateau. Whether to go on.

    Raises:
        NumericsError: if the loss is not finite.
    """
    if not math.isfinite(loss):
        raise NumericsError(f"validation loss is {loss} after {state.done} steps; lower the rate")
    if loss < state.best_loss:
        state.best_loss, state.waited, state.best = loss, 0, _weights(state.network)
        return True
    state.waited += 1
    if state.waited % config.patience == 0:
        state.lr *= config.factor
    return state.waited < config.stop


def shuffled(
    samples: Sequence[Sample], batch: int, rng: np.random.Generator
) -> Iterator[list[Sample]]:
    """One epoch: every sample once, in a random order; the last batch may be smaller."""
    order = rng.permutation(len(samples)).tolist()
    for i in range(0, len(order), batch):
        yield [samples[j] for j in order[i : i + batch]]


def usable(sample: Sample) -> bool:
    """Whether the expert finished: a score that is negative or not finite says it did not."""
    scores = sample.scores
    return len(scores) > 0 and bool(np.isfinite(scores).all() and (scores >= 0).all())


def _tables(network: BipartiteNetwork, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """[B, widest] the network's scores and the expert's, -inf where there is no candidate."""
    for place, sample in enumerate(samples):
        if sample.scores.shape != sample.observation.candidates.shape:
            raise ShapeError(
                f"sample {place} has scores {sample.scores.shape} for "
                f"{len(sample.observation.candidates)} candidates"
            )
        if not usable(sample):
            raise DataError(f"sample {place} has scores that are negative or not finite; drop it")
    device = next(network.parameters()).device
    graphs: GraphBatch = collate([s.observation for s in samples], network.config.features)
    graphs = graphs.to(device)
    scores = torch.from_numpy(np.concatenate([s.scores for s in samples])).to(device)
    return graphs.table(network(graphs)), graphs.table(scores)


def _hits(table: Tensor, scores: Tensor, k: int) -> int:
    top = table.topk(min(k, table.shape[1]), dim=1).indices
    best = scores.amax(1, keepdim=True)
    return int((scores.gather(1, top) == best).any(1).sum())


def _weights(network: BipartiteNetwork) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
