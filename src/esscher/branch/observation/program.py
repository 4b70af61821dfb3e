"""Readings of getters one after another, in one call."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.branch.observation.loops import KINDS, STEP, Loops

__all__ = ["Place", "Program", "Step", "address"]

_RESULTS = {"whole": np.int32, "pointer": np.int64}


def address(values: NDArray[Any]) -> int:
    """Where the values of an array stand."""
    return int(values.__array_interface__["data"][0])


class Place(NamedTuple):
    """Where a number stands that may be another at the next run: an entry of an array."""

    values: NDArray[Any]
    entry: int = 0

    @property
    def address(self) -> int:
        """Of the entry."""
        return address(self.values) + self.entry * self.values.itemsize

    @property
    def value(self) -> int:
        """What stands there."""
        return int(self.values[self.entry])


class Step(NamedTuple):
    """Getters of one kind for all of some items.

    Attributes:
        kind: name of the loop.
        getters: [K] addresses.
        items: place of the items' address, int64.
        length: place of their number, int32.
        contexts: places of up to two, int64.
    """

    kind: str
    getters: NDArray[np.int64]
    items: Place
    length: Place
    contexts: tuple[Place, ...] = ()


class Program:
    """Steps that are run together, in their order.

    Attributes:
        found: [K, N] of every step, as the last run left it; arrays are written over.
    """

    def __init__(self, loops: Loops) -> None:
        self.found: list[NDArray[Any]] = []
        self._run = loops.run
        self._steps: list[Step] = []
        self._table = np.zeros((0, STEP), np.int64)
        self._where = 0

    def add(self, step: Step) -> NDArray[Any]:
        """Add a step.

        Returns:
            [K * N] what it will have found. A later step may have its places there, if N stays.
        """
        places = [place.address for place in (*step.contexts, step.items, step.items)[:2]]
        row = (
            KINDS.index(step.kind), address(step.getters), len(step.getters),
            *places, step.items.address, step.length.address, 0, 0,
        )  # fmt: skip
        self._table = np.vstack([self._table, np.array(row, np.int64)])
        self._where = address(self._table)
        self._steps.append(step)
        self.found.append(np.empty(0))
        self._make(len(self._steps) - 1)
        return self.found[-1].reshape(-1)

    def run(self) -> None:
        """Read. Arrays in `found` are others afterwards where the number of items is another."""
        while (done := self._run(self._where, len(self._steps))) < len(self._steps):
            self._make(done)

    def _make(self, k: int) -> None:
        step = self._steps[k]
        shape = len(step.getters), step.length.value
        self.found[k] = np.zeros(shape, _RESULTS.get(step.kind, np.float64))
        self._table[k, -2:] = shape[1], address(self.found[k])
