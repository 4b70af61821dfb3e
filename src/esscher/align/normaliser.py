"""The normaliser in training: a running estimate from all draws, or a parameter."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from esscher.core.estimate import Estimate

__all__ = ["LearntLogZ", "LogZ"]


class LearntLogZ(NamedTuple):
    """A normaliser that is trained beside the policy, with Adam's moments.

    Attributes:
        value: log Z_θ, nats.
        mean: moving average of its gradient.
        square: moving average of the gradient's square.
        steps: updates taken.
    """

    value: float
    mean: float = 0.0
    square: float = 0.0
    steps: int = 0

    def moved(self, gradient: float, lr: float) -> LearntLogZ:
        """After one step of Adam (β = 0.9, 0.98)."""
        steps = self.steps + 1
        mean = 0.9 * self.mean + 0.1 * gradient
        square = 0.98 * self.square + 0.02 * gradient * gradient
        size = (mean / (1 - 0.9**steps)) / (math.sqrt(square / (1 - 0.98**steps)) + 1e-8)
        return LearntLogZ(self.value - lr * size, mean, square, steps)


class LogZ(NamedTuple):
    """Sums of importance weights P/q in log space; every draw counts once, whatever its q.

    Attributes:
        log_sum: log Σ w.
        log_squares: log Σ w².
        n: number of draws.
    """

    log_sum: float = -math.inf
    log_squares: float = -math.inf
    n: int = 0

    def update(self, log_w: Tensor) -> LogZ:
        """With the log-weights [B] of new draws."""
        added = log_w.detach().double()
        own = torch.tensor([self.log_sum, self.log_squares], dtype=torch.float64)
        log_sum = torch.logsumexp(torch.cat([added, own[:1]]), 0)
        log_squares = torch.logsumexp(torch.cat([2 * added, own[1:]]), 0)
        return LogZ(float(log_sum), float(log_squares), self.n + len(added))

    @property
    def value(self) -> float:
        """Log Z, nats; -inf while every weight was zero."""
        return self.log_sum - math.log(self.n) if self.n else -math.inf

    def estimate(self) -> Estimate | None:
        """Log Z with its delta-method standard error; None while every weight was zero."""
        if self.log_sum == -math.inf:
            return None
        ess = math.exp(2 * self.log_sum - self.log_squares)
        se = math.sqrt(max(0.0, 1 / ess - 1 / self.n) * self.n / max(1, self.n - 1))
        return Estimate(self.value, se, self.n, ess=ess, unit="nats")
