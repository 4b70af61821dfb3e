"""Policy gradients in the tree Markov decision process: a node's return is that of its sub-tree.

Reference:
    Scavuzzo, Chen, Chételat, Gasse, Lodi, Yorke-Smith, Aardal (2022), "Learning to branch with tree
    MDPs".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esscher.branch.graphs import collate
from esscher.branch.learners.state import LearnerState, begin
from esscher.branch.network import NetworkConfig
from esscher.branch.observation.base import Observation
from esscher.errors import ConfigError, DataError
from esscher.kit.rl.td3 import check_finite
from esscher.kit.runs.seeds import Streams

__all__ = ["Decision", "ReinforceConfig", "ReinforceInfo", "draw", "init", "step"]


class Decision(NamedTuple):
    """One branching of a policy that draws from the softmax of its network.

    Attributes:
        observation: of the node.
        place: position of the candidate drawn.
        gain: return of the node, -(size of its sub-tree) - 1.
    """

    observation: Observation
    place: int
    gain: float


@dataclass(frozen=True)
class ReinforceConfig:
    """Settings of the policy gradient; the defaults are those released with the paper."""

    lr: float = 1e-6
    """Learning rate, > 0; may change from step to step."""
    entropy: float = 1e-5
    """Bonus on the policy's entropy in nats, >= 0."""
    sample_rate: float = 0.05
    """Share of a tree's decisions learnt from, in (0, 1]."""
    largest: int = 50_000
    """Most decisions of a tree that is learnt from, >= 1."""
    batch: int = 64
    """Decisions evaluated at once, >= 1; the step is the same for any."""

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"ReinforceConfig.lr must be positive, got {self.lr}")
        if not 0 <= self.entropy < math.inf:
            raise ConfigError(f"ReinforceConfig.entropy must be >= 0, got {self.entropy}")
        if not 0 < self.sample_rate <= 1:
            raise ConfigError(
                f"ReinforceConfig.sample_rate must be in (0, 1], got {self.sample_rate}"
            )
        for name in ("largest", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ReinforceConfig.{name} must be >= 1, got {getattr(self, name)}")


class ReinforceInfo(NamedTuple):
    """What a step saw.

    Attributes:
        loss: minus the mean of return × log-probability, less the entropy's bonus.
        gain: mean return.
        entropy: mean entropy in nats.
    """

    loss: float
    gain: float
    entropy: float


def init(
    network: NetworkConfig,
    config: ReinforceConfig,
    streams: Streams,
    device: torch.device | str = "cpu",
) -> LearnerState:
    """A fresh state.

    Args:
        network: the architecture; its output should be "logit".
        config: settings.
        streams: of initial weights ("network") and sampling ("steps").
        device: where to learn.
    """
    return begin(network, config.lr, streams, device)


def draw(decisions: int, config: ReinforceConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which of a tree's decisions are learnt from: each with the sample rate, none if too many."""
    if decisions > config.largest:
        return np.zeros(0, np.int64)
    return np.flatnonzero(rng.random(decisions) < config.sample_rate)


def step(
    state: LearnerState, decisions: Sequence[Decision], config: ReinforceConfig
) -> ReinforceInfo:
    """One gradient step on the decisions of some episodes.

    Raises:
        DataError: if there are none.
        NumericsError: if the loss is not finite; the state is then that before the step.
    """
    if not decisions:
        raise DataError("a step needs one decision at least; raise the sample rate")
    state.rate(config.lr)
    state.optimiser.zero_grad(set_to_none=True)
    loss = entropy = 0.0
    for i in range(0, len(decisions), config.batch):
        part, spread = _loss(state, decisions[i : i + config.batch], config.entropy)
        part = part / len(decisions)
        loss += check_finite(part, "loss of the policy", state.done)
        entropy += spread / len(decisions)
        state.differentiate(part)
    state.optimiser.step()
    state.done += 1
    return ReinforceInfo(loss, float(np.mean([d.gain for d in decisions])), entropy)


def _loss(state: LearnerState, decisions: Sequence[Decision], bonus: float) -> tuple[Tensor, float]:
    """Sums over decisions: of the loss, and of the entropy."""
    graphs = collate([d.observation for d in decisions], state.network.config.features)
    graphs = graphs.to(state.device)
    log_prob = graphs.table(state.network(graphs)).log_softmax(1)
    place = torch.tensor([d.place for d in decisions], device=state.device)
    gain = torch.tensor([d.gain for d in decisions], device=state.device)
    taken = log_prob.gather(1, place[:, None])[:, 0]
    # Where there is no candidate the probability is 0, and so is its part of the entropy.
    spread = -(log_prob.exp() * log_prob.masked_fill(log_prob.isneginf(), 0.0)).sum()
    return -(gain * taken).sum() - bonus * spread, float(spread.detach())
