"""What every learner carries from one step to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from esscher.branch.network import BipartiteNetwork, NetworkConfig
from esscher.kit.runs.seeds import Streams, rng_state, set_rng_state

__all__ = ["LearnerState", "begin"]


@dataclass
class LearnerState:
    """All that the next step needs; modules are changed in place.

    Attributes:
        network: what is learnt.
        optimiser: Adam.
        rng: of sampling.
        done: steps taken.
    """

    network: BipartiteNetwork
    optimiser: torch.optim.Optimizer
    rng: np.random.Generator
    done: int
    parameters: list[nn.Parameter] = field(init=False, repr=False)
    """The network's."""

    def __post_init__(self) -> None:
        self.parameters = list(self.network.parameters())

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.parameters[0].device

    def differentiate(self, loss: Tensor) -> None:
        """Add a loss's gradient to the parameters'."""
        slopes = torch.autograd.grad(loss, self.parameters)
        for parameter, slope in zip(self.parameters, slopes, strict=True):
            parameter.grad = slope if parameter.grad is None else parameter.grad + slope

    def rate(self, lr: float) -> None:
        """Set the learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        """Everything as nested tensors and numbers."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng": rng_state(self.rng),
            "done": self.done,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        set_rng_state(self.rng, saved["rng"])
        self.done = int(saved["done"])


def begin(
    network: NetworkConfig, lr: float, streams: Streams, device: torch.device | str = "cpu"
) -> LearnerState:
    """A fresh network and optimiser.

    Args:
        network: its architecture.
        lr: learning rate.
        streams: of initial weights ("network") and sampling ("steps").
        device: where to learn.
    """
    fresh = BipartiteNetwork(network, rng=streams.torch("network")).to(device)
    optimiser = torch.optim.Adam(fresh.parameters(), lr=lr, fused=True)
    return LearnerState(fresh, optimiser, streams.numpy("steps"), 0)
