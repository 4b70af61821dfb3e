"""Q-learning on trajectories of a search tree, and regression of sub-tree sizes: `init`, `step`.

Where a transition has a successor its target is r + γ Q'(s', a'), else r. A memory of transitions
without successors, whose rewards are minus sub-tree sizes, makes it the regression of FMSTS.

References:
    van Hasselt, Guez, Silver (2016), "Deep reinforcement learning with double Q-learning";
    Parsonson, Laterre, Barrett (2023), "Reinforcement learning for branch-and-bound optimisation
    using retrospective trajectories"; Etheve, Alès, Bissuel, Juan, Kedad-Sidhoum (2020),
    "Reinforcement learning for variable selection in a branch and bound algorithm" (FMSTS).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from esscher.branch.learners.state import LearnerState, begin
from esscher.branch.memory import TransitionBatch
from esscher.branch.network import BipartiteNetwork, NetworkConfig
from esscher.errors import ConfigError
from esscher.kit.rl.td3 import check_finite, polyak
from esscher.kit.runs.seeds import Streams

__all__ = ["DQNConfig", "DQNInfo", "DQNState", "from_log", "init", "step", "targets", "to_log"]


@dataclass(frozen=True)
class DQNConfig:
    """Settings of Q-learning; the defaults are those released with the paper."""

    lr: float = 5e-5
    """Learning rate, > 0; may change from step to step."""
    batch: int = 128
    """Transitions per step, >= 1."""
    tau: float = 1e-4
    """Share of the online weights in every target update, in (0, 1]."""
    clip: float = 10.0
    """Greatest entry of a gradient, > 0."""
    double: bool = True
    """The online network chooses a' and the target network values it; else the latter does both."""
    loss: Literal["square", "huber"] = "square"
    """Of the difference to the target; "huber" is linear beyond 1."""
    space: Literal["plain", "log"] = "plain"
    """The network gives Q; or sign(Q) log(1 + |Q|), in which differences are relative."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"DQNConfig.batch must be >= 1, got {self.batch}")
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"DQNConfig.{name} must be positive, got {getattr(self, name)}")
        if not 0 < self.tau <= 1:
            raise ConfigError(f"DQNConfig.tau must be in (0, 1], got {self.tau}")
        for name, known in (("loss", ("square", "huber")), ("space", ("plain", "log"))):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"DQNConfig.{name} must be {' or '.join(known)}, got {getattr(self, name)!r}"
                )


class DQNInfo(NamedTuple):
    """What a step saw.

    Attributes:
        loss: weighted mean.
        q: mean of the network's output at the candidates chosen.
        target: mean of the targets, in the network's space.
        error: [B] target minus output, for priorities.
    """

    loss: float
    q: float
    target: float
    error: NDArray[np.float32]


@dataclass
class DQNState(LearnerState):
    """A learner's state, and the slow copy of its network.

    Attributes:
        target: the slow copy.
    """

    target: BipartiteNetwork

    def state_dict(self) -> dict[str, Any]:
        """Everything as nested tensors and numbers."""
        return super().state_dict() | {"target": self.target.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(saved)
        self.target.load_state_dict(saved["target"])


def init(
    network: NetworkConfig,
    config: DQNConfig,
    streams: Streams,
    device: torch.device | str = "cpu",
) -> DQNState:
    """A fresh state.

    Args:
        network: the architecture; its output should be "value" or "linear".
        config: settings.
        streams: of initial weights ("network") and sampling ("steps").
        device: where to learn.
    """
    base = begin(network, config.lr, streams, device)
    slow = copy.deepcopy(base.network).requires_grad_(False)
    return DQNState(base.network, base.optimiser, base.rng, base.done, slow)


def step(state: DQNState, batch: TransitionBatch, config: DQNConfig) -> DQNInfo:
    """One gradient step and one move of the target network.

    Raises:
        NumericsError: if the loss is not finite; the state is then that before the step.
    """
    device = state.device
    wanted = targets(state, batch, config)
    graphs = batch.graphs.to(device)
    q = graphs.chosen(state.network(graphs), batch.place.to(device))
    if config.loss == "huber":
        apart = functional.smooth_l1_loss(q, wanted, reduction="none")
    else:
        apart = (q - wanted).square()
    loss = (batch.weight.to(device) * apart).mean()
    value = check_finite(loss, "loss of Q", state.done)
    state.rate(config.lr)
    state.optimiser.zero_grad(set_to_none=True)
    state.differentiate(loss)
    nn.utils.clip_grad_value_(state.parameters, config.clip)
    state.optimiser.step()
    polyak(list(state.target.parameters()), list[Tensor](state.parameters), config.tau)
    state.done += 1
    error = (wanted - q.detach()).cpu().numpy()
    return DQNInfo(value, float(q.detach().mean()), float(wanted.mean()), error)


@torch.no_grad()
def targets(state: DQNState, batch: TransitionBatch, config: DQNConfig) -> Tensor:
    """[B] r + γ Q'(s', a') in the network's space, a' the best candidate of s'."""
    device = state.device
    wanted = batch.reward.to(device)
    if batch.successors is not None:
        after = batch.successors.to(device)
        slow = state.target(after)
        best = after.table(state.network(after) if config.double else slow).argmax(1)
        value = after.chosen(slow, best)
        if config.space == "log":
            value = from_log(value)
        followed = batch.followed.to(device)
        ahead = batch.discount.to(device).index_select(0, followed) * value
        wanted = wanted.index_add(0, followed, ahead)
    return to_log(wanted) if config.space == "log" else wanted


def to_log(q: Tensor) -> Tensor:
    """sign(Q) log(1 + |Q|): as -log(-Q) for values far below 0, and defined at 0."""
    return torch.sign(q) * torch.log1p(q.abs())


def from_log(value: Tensor) -> Tensor:
    """The inverse of `to_log`."""
    return torch.sign(value) * torch.expm1(value.abs())
