"""The best model of a fit so far, as the training draws judge it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Best", "divergence_terms"]


@dataclass
class Best:
    """Weights of the average at the end of the window of steps with the lowest mean divergence.

    Attributes:
        divergence: of that window, nats; inf before the first one ended.
        step: steps done when it ended.
        weights: the state dictionary kept; None before the first window ended.
        window: sums (n, Σd) of the window that has not ended.
    """

    divergence: float = math.inf
    step: int = 0
    weights: dict[str, Any] | None = None
    window: tuple[int, float] = (0, 0.0)

    def add(self, terms: Tensor) -> None:
        """Count one batch's terms [B] of the divergence."""
        n, total = self.window
        self.window = (n + len(terms), total + float(terms.sum()))

    def close(self, module: nn.Module, step: int) -> None:
        """End the window; keep the module's weights if none was better."""
        n, total = self.window
        self.window = (0, 0.0)
        if n and total / n < self.divergence:
            self.divergence, self.step = total / n, step
            self.weights = {k: v.detach().clone() for k, v in module.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything as nested tensors and numbers."""
        return {
            "divergence": self.divergence,
            "step": self.step,
            "weights": self.weights,
            "window": list(self.window),
        }

    @classmethod
    def of(cls, saved: dict[str, Any]) -> Best:
        """What `state_dict` gave."""
        n, total = saved["window"]
        return cls(saved["divergence"], saved["step"], saved["weights"], (n, total))


def divergence_terms(
    log_pi: Tensor, log_q: Tensor, log_target: Tensor, log_z: Tensor, *, on_policy: bool
) -> Tensor:
    """[B] terms whose mean estimates a divergence between model and target, nats.

    Log Z is [] or [B], by context. Draws of the model itself give KL(π‖p*), those of another law
    KL(p*‖π), importance-weighted. The target is floored for the former and exact for the latter.
    """
    gap = log_pi - (log_target - log_z)
    if on_policy:
        return gap
    weight = (log_target - log_z - log_q).exp()
    return torch.where(weight > 0, -weight * gap, 0.0)
