"""Exponential moving average of a module's weights."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["update_average"]


@torch.no_grad()
def update_average(mean: nn.Module, new: nn.Module, decay: float, done: int) -> None:
    """Move the average towards the weights after `done` steps, in place.

    The decay is capped at (1 + done) / (10 + done), so that the first weights do not linger.

    Args:
        mean: module that holds the average.
        new: module of the same shape that is being trained.
        decay: in [0, 1).
        done: steps taken so far, at least 1.

    Reference: Polyak and Juditsky (1992) for averaging iterates.
    """
    keep = min(decay, (1 + done) / (10 + done))
    for average, parameter in zip(mean.parameters(), new.parameters(), strict=True):
        average.lerp_(parameter.to(average.dtype), 1 - keep)
