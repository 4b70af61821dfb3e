"""The approximation scheme for one backup box: guesses from the end of phase 1 to its beginning."""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.pandora.blocks import Capped, Opening, gains, statistics, surplus
from esscher.pandora.chains import Block, Problem, assign, signatures
from esscher.pandora.screening import Backup
from esscher.pandora.weitzman import Grid

__all__ = ["MOST_SIGNATURES", "ROUNDINGS", "SLACK", "Plan", "Scheme", "Step"]

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
ROUNDINGS = 12
"""All errors of the proof together, in δ."""
MOST_SIGNATURES = 1 << 20
"""Guesses are not listed where the pool has more signatures than this."""
SLACK = 7
"""How far lower bounds of D may be below it, in δ."""


class Plan(NamedTuple):
    """What going through all guesses would take, known before it starts.

    Attributes:
        boxes: s, those that may be opened before the backup is decided.
        blocks: most blocks of a guess.
        levels: levels a block may end at.
        statistics: d, numbers that describe a set of boxes.
        log10_states: decimal logarithm of the bound on states over all guesses.
    """

    boxes: int
    blocks: int
    levels: int
    statistics: int
    log10_states: float


class Step(NamedTuple):
    """One guess looked at.

    Attributes:
        order: boxes of its blocks in order of time.
        promise: what the guess vouches for, from the base of the grid.
        states: that the dynamic program went through.
    """

    order: list[int]
    promise: float
    states: int


class Scheme:
    """Guesses and assignments for one backup box.

    Args:
        grid: the boxes.
        backup: the box that may be claimed, and which boxes are opened first, perhaps, or later.
        committing: C > 0, value of the best committing policy, from the base of the grid.
        eps: ε in (0, 1).

    Attributes:
        delta: δ, in the units of the values.
        sums: [q, d] signatures of the sets of boxes in the pool; None if they are too many.
    """

    def __init__(self, grid: Grid, backup: Backup, committing: float, eps: float) -> None:
        self.delta = eps * committing / ROUNDINGS
        self.mean = grid.boxes[backup.box].mean
        self.span = max(min(backup.bound, 2 * committing) - self.mean, 0.0)
        self.pool = list(backup.pool)
        self.committing = committing
        closed = [*backup.pool, *backup.rest]
        self.stats = statistics([_law(grid, i) for i in closed], committing, self.delta)
        self.openings = [_opening(grid, i) for i in self.pool]
        self.problem = self._problem()
        self._known: dict[int, float] = {}
        self.sums = signatures(self.problem.removal, MOST_SIGNATURES)

    def plan(self) -> Plan:
        """The cost, without the work."""
        s, d = len(self.pool), self.problem.removal.shape[1]
        levels = math.ceil(self.span / self.delta) + 2
        cells = levels + math.ceil(self.committing / self.delta) + 1
        blocks = min(s, 2 * cells)
        units = np.log10(self.problem.removal.sum(0) + 1.0).sum()
        sums = min(s * math.log10(2), float(units))
        states = min(s * math.log10(blocks + 1), blocks * (sums + math.log10(s * levels + 1)))
        guesses = blocks * (math.log10(2 * levels) + sums)
        return Plan(s, blocks, levels, d, guesses + states + math.log10(s + 1))

    def steps(self, above: list[float]) -> Iterator[Step]:
        """Guesses, the most promising first, until none is left.

        Args:
            above: one number that the caller may raise on the way; guesses that cannot promise
                more than it, from the base of the grid, are left out.
        """
        grain, sums = self.delta / max(len(self.pool), 1), self.sums
        if sums is None:
            return
        queue: list[tuple[float, int, list[Block]]] = []
        tie = count()
        start = self.problem.start // self.problem.unit
        for row in sums[1:]:
            for alone in (False, True):
                chain = [Block(start, tuple(row.tolist()), alone)]
                heappush(queue, (-math.inf, next(tie), chain))
        while queue:
            hope, _, chain = heappop(queue)
            if -hope * grain <= above[0]:
                return
            found = assign(self.problem, chain)
            yield Step(self._order(chain, found.blocks), found.promise * grain, found.states)
            for longer in self._earlier(sums, chain, found.promise, above[0] / grain):
                heappush(queue, (-self._hope(longer[0], found.promise), next(tie), longer))

    def _earlier(
        self, sums: Whole, chain: list[Block], promise: int, above: float
    ) -> Iterator[list[Block]]:
        """Guesses with one block more at the beginning, at every level it may have reached."""
        head = chain[0]
        top = promise // self.problem.unit + 2
        last = top if head.alone else min(top, head.level + 2)
        inside = (sums <= np.array(head.removed)).all(1) & (sums != np.array(head.removed)).any(1)
        rows = [tuple(row.tolist()) for row in sums[inside & sums.any(1)]]
        for level in range(head.level, last + 1):
            if self._hope(Block(level, head.removed, alone=False), promise) > above:
                for row in rows:
                    yield [Block(level, row, alone=False), *chain]
                    yield [Block(level, row, alone=True), *chain]

    def _hope(self, head: Block, promise: int) -> float:
        """No guess with this block at its head and more before it promises more."""
        reached = min(promise, (head.level + 1) * self.problem.unit)
        return reached + self._most(head.level)

    def _most(self, level: int) -> float:
        """What all boxes together gain at a level at most, each with all others left."""
        if level not in self._known:
            own = [
                self.problem.gains(Block(level, tuple(row.tolist()), alone=False))[i]
                for i, row in enumerate(self.problem.removal)
            ]
            self._known[level] = float(np.clip(own, 0, None).sum())
        return self._known[level]

    def _order(self, chain: list[Block], blocks: tuple[int, ...]) -> list[int]:
        """Boxes block by block; within one, those with the largest gain first."""
        found: list[int] = []
        for b, block in enumerate(chain):
            own = [i for i, k in enumerate(blocks) if k == b]
            worth = self.problem.gains(block)
            found += [self.pool[i] for i in sorted(own, key=lambda i: -int(worth[i]))]
        return found

    def _problem(self) -> Problem:
        """Statistics and gains in whole units, so that all rounding loses δ at most of each."""
        s, stats = max(len(self.pool), 1), self.stats
        m, r = len(stats.cuts), len(stats.tails)
        size = np.repeat([self.delta / (stats.cuts[-1] * s), self.delta / s], [m, r])
        both = np.concatenate([stats.hidden, stats.excess], 1)
        total, grain = both.sum(0), self.delta / s
        removal = np.ceil(both[: len(self.pool)] / size - 1e-9).astype(np.int64)
        at = np.unique(np.concatenate([np.zeros(1), *(box.shown for box in self.openings)]))
        places = [np.searchsorted(at, box.shown) for box in self.openings]
        known: dict[tuple[int, tuple[int, ...]], Whole] = {}

        def gain(block: Block) -> Whole:
            key = block.level, block.removed
            if key not in known:
                left = total - np.array(block.removed) * size
                extra = surplus(stats, left[:m], left[m:], at)
                reference = (block.level - SLACK) * self.delta
                found = gains(self.openings, reference, [extra[p] for p in places])
                known[key] = np.floor(found / grain + 1e-9).astype(np.int64)
            return known[key]

        return Problem(removal, gain, math.floor(self.mean / grain + 1e-9), s)


def _law(grid: Grid, i: int) -> Capped:
    box = grid.boxes[i]
    return Capped(grid.points[box.low], np.diff(box.cdf, prepend=0.0))


def _opening(grid: Grid, i: int) -> Opening:
    box = grid.boxes[i]
    return Opening(box.cost, grid.points[box.columns], box.probs)
