"""Priorities of transitions: a tree of sums, drawn from in proportion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError

__all__ = ["Priorities", "SumTree"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Priorities:
    """Settings of prioritised sampling: P(i) ∝ max(|δ_i|, smallest)^α.

    A drawn transition weighs (n P(i))^-β, over the greatest such weight of its batch.

    Reference:
        Schaul, Quan, Antonoglou, Silver (2016), "Prioritized experience replay", equations 1, 2.
    """

    alpha: float = 0.6
    """α, 0 for uniform draws, in [0, 1]."""
    beta: float = 0.4
    """β at first, in [0, 1]; 1 corrects the bias in full."""
    beta_steps: int = 5000
    """Updates until β is 1, >= 1."""
    smallest: float = 1e-3
    """Least |δ| counted, > 0."""

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"Priorities.{name} must be in [0, 1], got {getattr(self, name)}")
        if self.beta_steps < 1:
            raise ConfigError(f"Priorities.beta_steps must be >= 1, got {self.beta_steps}")
        if not 0 < self.smallest < np.inf:
            raise ConfigError(f"Priorities.smallest must be positive, got {self.smallest}")

    def beta_at(self, updates: int) -> float:
        """β after a number of updates: linear from `beta` to 1."""
        return min(1.0, self.beta + (1 - self.beta) * updates / self.beta_steps)


class SumTree:
    """Non-negative numbers whose running sums are searched in O(log n).

    Args:
        capacity: how many numbers, >= 1; all 0 at first.
    """

    def __init__(self, capacity: int) -> None:
        self._leaves = 1 << (capacity - 1).bit_length()
        # Node k has children 2k and 2k + 1; the root is 1.
        self._sums = np.zeros(2 * self._leaves)

    @property
    def total(self) -> float:
        """Sum of all."""
        return float(self._sums[1])

    def __getitem__(self, index: Ints) -> Floats:
        found: Floats = self._sums[self._leaves + index]
        return found

    def __setitem__(self, index: Ints, value: Floats) -> None:
        """Set numbers [n]; where an index stands twice, the later one holds."""
        node = self._leaves + index
        self._sums[node] = value
        while node.size and node[0] > 1:
            node = np.unique(node >> 1)
            self._sums[node] = self._sums[2 * node] + self._sums[2 * node + 1]

    def find(self, mass: Floats) -> Ints:
        """[n] for masses in [0, total): the index i with sum before i <= mass < sum up to i."""
        node = np.ones(len(mass), np.int64)
        mass = mass.copy()
        while node[0] < self._leaves:
            node *= 2
            left = self._sums[node]
            # Rounding may leave a mass at the very end; a child of sum 0 is never entered.
            right = (mass >= left) & (self._sums[node + 1] > 0)
            mass -= np.where(right, left, 0)
            node += right
        return node - self._leaves
