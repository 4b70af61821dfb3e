"""Guesses of the approximation scheme, and the assignments of boxes that meet them.

Phase 1 of an optimal policy is cut into blocks in which neither the value of going on nor
Weitzman's value moves by more than δ. A guess says for every block at which level of the first it
ends, and how much of the statistics all boxes opened by then have taken away. Given a guess, the
gain of every box in every block is a number, and a dynamic program over the boxes finds who is
opened in which block. Equations: docs/systems/pandora.md, "The approximation scheme".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "Found", "Problem", "assign", "signatures"]

Whole = NDArray[np.int64]


class Block(NamedTuple):
    """A guess of one block.

    Attributes:
        level: a, where the value of going on after the block is in [a δ, (a + 1) δ).
        removed: [d] units of the statistics that boxes opened up to its end have taken away.
        alone: whether it is a single box, whose gain may exceed δ.
    """

    level: int
    removed: tuple[int, ...]
    alone: bool


class Problem(NamedTuple):
    """One choice of the backup box.

    Attributes:
        removal: [s, d] units that each candidate takes away when it is opened, rounded up.
        gains: a block to the [s] gains of the candidates in it, rounded down to units of δ / s.
        start: value of the backup box, rounded down to the same units.
        unit: how many of them make one δ.
    """

    removal: Whole
    gains: Callable[[Block], Whole]
    start: int
    unit: int


class Found(NamedTuple):
    """The best assignment that meets a guess.

    Attributes:
        promise: value before the first block that the guess vouches for, units of δ / s.
        blocks: per candidate the index of its block in order of time, -1 for none.
        states: that the dynamic program went through.
    """

    promise: int
    blocks: tuple[int, ...]
    states: int


def signatures(removal: Whole, most: int) -> Whole | None:
    """[q, d] the different sums of rows over all subsets; None if they are more than `most`."""
    found = np.zeros((1, removal.shape[1]), np.int64)
    for row in removal:
        found = np.unique(np.concatenate([found, found + row]), axis=0)
        if len(found) > most:
            return None
    return found


def assign(problem: Problem, chain: list[Block]) -> Found:
    """The assignment with the largest promise among those that meet a guess.

    A state is what the boxes so far have taken away by the end of every block, and what every block
    has gained. Of states with equal numbers one is kept; those beyond the guess are dropped.

    Args:
        problem: the candidates.
        chain: blocks in order of time, at least one.
    """
    dims = problem.removal.shape[1]
    gain = np.stack([problem.gains(block) for block in chain], 1)
    states = _States(
        np.zeros((1, len(chain), dims), np.int64),
        np.zeros((1, len(chain)), np.int64),
        np.zeros((1, 0), np.int8),
    )
    count = 0
    for row, own in zip(problem.removal, gain, strict=True):
        opened = [_opened(states, chain, int(b), row, int(own[b])) for b in np.flatnonzero(own > 0)]
        closed = states._replace(history=_noted(states.history, -1))
        states = _distinct([closed, *opened])
        count += len(states.gained)
    promises = _promises(problem, chain, states.gained)
    best = int(promises.argmax())
    return Found(int(promises[best]), tuple(states.history[best].tolist()), count)


class _States(NamedTuple):
    """[q, B, d] taken away by the end of every block, [q, B] gained in it, [q, i] decisions."""

    removed: Whole
    gained: Whole
    history: NDArray[np.int8]


def _distinct(parts: list[_States]) -> _States:
    """One of every group of states with equal numbers."""
    removed = np.concatenate([part.removed for part in parts])
    gained = np.concatenate([part.gained for part in parts])
    history = np.concatenate([part.history for part in parts])
    keys = np.concatenate([removed.reshape(len(removed), -1), gained], 1)
    _, kept = np.unique(keys, axis=0, return_index=True)
    return _States(removed[kept], gained[kept], history[kept])


def _opened(states: _States, chain: list[Block], b: int, row: Whole, gain: int) -> _States:
    """The states in which the next box is opened in block b, as far as the guess allows."""
    allowed = np.array([block.removed for block in chain[b:]], np.int64)
    removed = states.removed.copy()
    removed[:, b:] += row
    fits = (removed[:, b:] <= allowed).all((1, 2))
    if chain[b].alone:
        fits &= states.gained[:, b] == 0
    gained = states.gained[fits].copy()
    gained[:, b] += gain
    return _States(removed[fits], gained, _noted(states.history[fits], b))


def _noted(history: NDArray[np.int8], choice: int) -> NDArray[np.int8]:
    return np.column_stack([history, np.full(len(history), choice, np.int8)])


def _promises(problem: Problem, chain: list[Block], gained: Whole) -> Whole:
    """[q] values before the first block, each block's kept near the levels that it is for."""
    value = np.full(len(gained), problem.start, np.int64)
    for b in range(len(chain) - 1, -1, -1):
        value = value + gained[:, b]
        if not chain[b].alone:
            value = np.minimum(value, (chain[b].level + 3) * problem.unit)
        if b:
            value = np.minimum(value, (chain[b - 1].level + 1) * problem.unit)
    return value
