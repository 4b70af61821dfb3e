"""The normaliser in training: a running estimate from all draws, or a parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from esscher.core.estimate import Estimate

__all__ = ["LearntLogZ", "LogZ", "disagreement", "log_z_of", "updated"]


ALARM = 4.0
"""Standard errors between two estimates of log Z that are no accident; its square is how many
satisfied draws must have been expected where none was seen."""


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


def updated(known: Mapping[str, LogZ], log_w: Tensor, context: Sequence[str]) -> dict[str, LogZ]:
    """Estimates by context, with the log-weights [B] of new draws in their contexts."""
    rows: dict[str, list[int]] = {}
    for i, text in enumerate(context):
        rows.setdefault(text, []).append(i)
    new = {text: known.get(text, LogZ()).update(log_w[own]) for text, own in rows.items()}
    return {**known, **new}


def log_z_of(known: Mapping[str, LogZ], context: Sequence[str]) -> Tensor:
    """[B] log Z of the contexts, nats; -inf where every weight seen so far was zero."""
    return torch.tensor([known.get(text, LogZ()).value for text in context], dtype=torch.float64)


def disagreement(running: LogZ, anchor: LogZ, step: int) -> str | None:
    """A sentence if log Z from training draws is not that from prior draws; None if it may be.

    A policy that has left part of the target sees a Z that is too small, with a small error bar:
    only draws of a law that covers the target can tell.

    Args:
        running: from the training draws.
        anchor: from draws of the prior.
        step: steps done.
    """
    seen, known = running.estimate(), anchor.estimate()
    if known is None:
        return None
    if seen is None:
        if running.n * math.exp(known.mean) <= ALARM**2:
            return None
        said = f"no training draw of {running.n} is satisfied"
    elif abs(seen.mean - known.mean) > ALARM * math.hypot(seen.se, known.se):
        said = f"the training draws say log Z = {seen}"
    else:
        return None
    return (
        f"after {step} steps {said}, draws of the prior say {known}: the training draws miss a "
        "part of the target, so that numbers of theirs look too good; take proposal='mixture' or "
        "a smaller learning rate"
    )
