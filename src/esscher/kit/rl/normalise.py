"""Observations standardised and actions mapped to [-1, 1], by statistics a checkpoint holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esscher.errors import ConfigError, DataError, ShapeError

__all__ = ["STD_FLOOR", "ActionMap", "Standardiser"]

STD_FLOOR = 1e-3
"""Added to every standard deviation, so that a constant dimension stays finite."""
_PART = 8192


class Standardiser(nn.Module):
    """x ↦ (x - mean) / std with fixed statistics.

    Attributes:
        mean: [d].
        std: [d], positive.

    Args:
        mean: [d], finite.
        std: [d], positive and finite.

    Raises:
        ShapeError: if they are not vectors of one length.
        DataError: if one is not finite or a std is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        if mean.ndim != 1 or mean.shape != std.shape:
            raise ShapeError(f"mean and std must be [d], got {[*mean.shape]} and {[*std.shape]}")
        if not bool((mean.isfinite() & std.isfinite() & (std > 0)).all()):
            raise DataError("mean must be finite and std positive and finite")
        self.register_buffer("mean", mean.to(torch.float32))
        self.register_buffer("std", std.to(torch.float32))

    @classmethod
    def fit(cls, obs: NDArray[np.float32]) -> Self:
        """Mean and standard deviation + `STD_FLOOR` of the rows of obs [N, d], in float64."""
        # In parts: a float64 copy would be the largest array of a fit.
        parts = [obs[start : start + _PART] for start in range(0, len(obs), _PART)]
        mean = sum(part.sum(0, dtype=np.float64) for part in parts) / len(obs)
        squares = sum(((part.astype(np.float64) - mean) ** 2).sum(0) for part in parts)
        std = np.sqrt(squares / len(obs)) + STD_FLOOR
        return cls(torch.from_numpy(mean), torch.from_numpy(std))

    @classmethod
    def identity(cls, width: int) -> Self:
        """The map that changes nothing."""
        return cls(torch.zeros(width), torch.ones(width))

    def forward(self, obs: Tensor) -> Tensor:
        """[..., d] standardised."""
        return (obs - self.mean) / self.std


class ActionMap(nn.Module):
    """The affine map between a box of actions and [-1, 1]^m.

    Attributes:
        low: [m].
        high: [m], above low.

    Args:
        low: [m].
        high: [m].

    Raises:
        ShapeError: if they are not vectors of one length.
        ConfigError: if the box is unbounded or empty; the dimension is named.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Sequence[float] | Tensor, high: Sequence[float] | Tensor) -> None:
        super().__init__()
        lower = torch.as_tensor(low, dtype=torch.float32)
        upper = torch.as_tensor(high, dtype=torch.float32)
        if lower.ndim != 1 or lower.shape != upper.shape or not len(lower):
            raise ShapeError(f"low and high must be [m], got {[*lower.shape]}, {[*upper.shape]}")
        for number, (a, b) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True)):
            if not np.isfinite([a, b]).all():
                raise ConfigError(
                    f"action dimension {number} is unbounded ({a:g} to {b:g}); wrap the "
                    "environment so that its actions lie in a box"
                )
            if not a < b:
                raise ConfigError(f"action dimension {number} is empty: low {a:g}, high {b:g}")
        self.register_buffer("low", lower)
        self.register_buffer("high", upper)

    def to_unit(self, action: Tensor) -> Tensor:
        """Actions of the environment [..., m] in the unit box."""
        return 2 * (action - self.low) / (self.high - self.low) - 1

    def from_unit(self, action: Tensor) -> Tensor:
        """Unit actions [..., m] in the environment's box."""
        return self.low + (action + 1) * (self.high - self.low) / 2

    def check(self, action: Tensor, slack: float = 1e-4) -> None:
        """Refuse actions outside the box.

        Raises:
            DataError: naming the first row and the box.
        """
        room = slack * (self.high - self.low)
        outside = ((action < self.low - room) | (action > self.high + room)).any(-1)
        if bool(outside.any()):
            row = int(outside.nonzero()[0])
            raise DataError(
                f"action has {int(outside.sum())} rows outside its box, first row {row}: "
                f"{action[row].tolist()} with low {self.low.tolist()}, high {self.high.tolist()}"
            )
