"""A policy and a bound on all policies, for instances too large for the exact table.

Best-first over the boxes opened before the backup is decided. A node is a backup and a path of
opened boxes; its bound is that of what is left, carried back through the path to the start by
A ← -c + E max(A, W(S, X)). So every bound is one on the value at the *root*, the largest of them
bounds the optimum, and the certificate is the gap between that and the incumbent.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esscher.pandora.exact import Found, committing_certificate, lattice_of, plan
from esscher.pandora.local_search import improve
from esscher.pandora.policy import order_value
from esscher.pandora.relaxation import Relaxation
from esscher.pandora.result import relative_gap
from esscher.pandora.screening import Backup, Reduced

__all__ = ["MAX_NODES", "Bounded", "branch_and_bound"]

Array = NDArray[np.float64]
TELL_EVERY = 3.0
"""Seconds between two words on the progress."""
MAX_NODES = 400_000
"""Open nodes held at most; a node takes about a kilobyte."""
SMALL = 2**14
"""Backups with no more states than this are solved by their table."""
CAPS = (0.01, 0.05, 0.3)
"""Caps on the shortfall that the relaxation tries, relative to the incumbent."""
LOCAL_SHARE = 0.05
"""Share of the time limit that local search may take for one backup."""


@dataclass(frozen=True)
class Bounded:
    """A certificate, and a bound on every policy; both values from the base of the grid.

    The certificate's states are the nodes looked at.
    """

    found: Found
    upper: float
    finished: bool


@dataclass(frozen=True)
class _Step:
    """One opened box: A ← -cost + Σ probs max(A, search)."""

    before: _Step | None
    box: int
    cost: float
    probs: Array
    search: Array


class _Node:
    """A backup's problem, a path and the pool that is left."""

    __slots__ = ("path", "pool", "search")

    def __init__(self, search: _Search, path: _Step | None, pool: tuple[int, ...]) -> None:
        self.search, self.path, self.pool = search, path, pool


def branch_and_bound(
    reduced: Reduced,
    eps: float,
    time_limit: float | None = None,
    max_nodes: int = MAX_NODES,
    tell: Callable[[str], None] | None = None,
) -> Bounded:
    """Search until the gap at the root is at most eps, or time or memory is spent.

    Args:
        reduced: the instance.
        eps: relative gap in the units of the original instance, at least 0.
        time_limit: seconds, or None.
        max_nodes: open nodes held at most.
        tell: is told how far the search is, every few seconds.
    """
    deadline = math.inf if time_limit is None else time.monotonic() + time_limit
    run = _Run(reduced, eps, deadline)
    slot = math.inf if time_limit is None else LOCAL_SHARE * time_limit
    for problem in plan(reduced):
        run.add(problem, min(deadline, time.monotonic() + slot))
    finished = run.search(max_nodes, tell or (lambda _: None))
    best = Found(run.best.value, run.best.order, run.best.backup, run.nodes)
    return Bounded(best, max(run.upper(), best.value), finished)


class _Run:
    """Incumbent, open nodes and the bounds of what was put aside."""

    def __init__(self, reduced: Reduced, eps: float, deadline: float) -> None:
        self.reduced, self.grid, self.eps, self.deadline = reduced, reduced.grid, eps, deadline
        self.best = committing_certificate(reduced)
        self.closed = -math.inf
        self.heap: list[tuple[float, int, _Node]] = []
        self.ticket = itertools.count()
        self.nodes = 0

    def upper(self) -> float:
        """Bound on every policy."""
        return max(self.closed, -self.heap[0][0] if self.heap else -math.inf)

    def done(self, bound: float) -> bool:
        """Whether nothing below this bound need be looked at."""
        base = self.grid.base
        if bound <= self.best.value + self.grid.tie:
            return True
        return relative_gap(self.best.value + base, bound + base) <= self.eps

    def offer(self, value: float, order: tuple[int, ...], backup: int | None) -> None:
        """A policy that may be better than the incumbent."""
        if value > self.best.value + self.grid.tie:
            self.best = Found(value, order, backup, 0)

    def push(self, bound: float, node: _Node) -> None:
        """Keep a node, or only its bound if it is done with."""
        if self.done(bound):
            self.closed = max(self.closed, bound)
        else:
            heapq.heappush(self.heap, (-bound, next(self.ticket), node))

    def _progress(self) -> str:
        base = self.grid.base
        gap = relative_gap(self.best.value + base, self.upper() + base)
        return (
            f"{self.nodes} nodes, {len(self.heap)} open, value {self.best.value + base:.6g}, "
            f"gap {gap:.2g} of {self.eps:.2g}"
        )

    def add(self, problem: Backup, deadline: float) -> None:
        """One backup: solved at once if it is small, else its root becomes a node."""
        if self.done(problem.bound):
            self.closed = max(self.closed, problem.bound)
            return
        lattice = lattice_of(self.reduced, problem)
        if lattice.states <= SMALL:
            self.nodes += lattice.states
            tail, claims = lattice.solve().order()
            order = (*problem.prefix, *tail)
            value = order_value(self.grid, order, problem.box if claims else None)
            self.closed = max(self.closed, value)
            if claims:
                self.offer(value, order, problem.box)
            return
        search = _Search(self, problem)
        bound, root, tail = search.root()
        value, tail = improve(self.grid, problem, tail, deadline)
        self.offer(value, (*problem.prefix, *tail), problem.box)
        self.push(min(bound, problem.bound), root)

    def search(self, max_nodes: int, tell: Callable[[str], None]) -> bool:
        """Expand the node of the largest bound until it is done with; False if stopped."""
        told = time.monotonic()
        while self.heap:
            if time.monotonic() - told > TELL_EVERY:
                told = time.monotonic()
                tell(self._progress())
            bound, _, node = self.heap[0]
            if self.done(-bound):
                return True
            if time.monotonic() >= self.deadline or len(self.heap) > max_nodes:
                return False
            heapq.heappop(self.heap)
            self.nodes += 1
            stopped = node.search.expand(node, -bound)
            self.closed = max(self.closed, stopped)
        return True


class _Search:
    """Expansion of the nodes of one backup."""

    def __init__(self, run: _Run, problem: Backup) -> None:
        self.run, self.grid, self.problem = run, run.grid, problem
        caps = [c * max(run.best.value, run.grid.tie) for c in CAPS]
        self.relaxation = Relaxation(run.grid, problem, caps)
        self.mean = run.grid.boxes[problem.box].mean
        self.rows = {i: run.grid.row(i) for i in problem.pool}
        self.kinds = _kinds(run.reduced, problem)
        self.seen: dict[frozenset[int], list[tuple[float, float]]] = {}

    def root(self) -> tuple[float, _Node, list[int]]:
        """(bound, the node whose path is the prefix, an order of the pool to start from)."""
        cdf = self.grid.product((*self.problem.rest, *self.problem.pool))
        short = self.relaxation.shortfall(self.problem.pool)
        ahead = self.grid.at(cdf, self.relaxation.beta) - short.whole
        top = max(ahead, self.mean, float(self.grid.search(cdf)[0]))
        steps = []
        for i in reversed(self.problem.prefix):
            steps.append((i, self.grid.search(cdf)[self.grid.boxes[i].columns]))
            cdf = cdf * self.grid.row(i)
        path: _Step | None = None
        for i, search in reversed(steps):
            path = _Step(path, i, self.grid.boxes[i].cost, self.grid.boxes[i].probs, search)
        bound = float(_carried(path, np.array([top]), np.ones(1))[0][0])
        return bound, _Node(self, path, self.problem.pool), short.order

    def expand(self, node: _Node, bound: float) -> float:
        """Push the children of a node; the largest value of stopping in one of them."""
        pool, run = node.pool, self.run
        chosen = [k for k, i in enumerate(pool) if self._first_of_kind(i, pool)]
        short = self.relaxation.shortfall(pool)
        table, at_beta = self._tables(pool)
        low = np.maximum(table[:, 0], self.mean)
        high = np.maximum(at_beta - short.without, low)
        self._try(node, short.order)
        steps = [self._step(node.path, pool[k], table[k]) for k in range(len(pool))]
        lows, slopes = _opened(steps, low)
        highs, _ = _opened(steps, high)
        lows, slopes = _carried(node.path, lows, slopes)
        highs, _ = _carried(node.path, highs, slopes)
        stopped = -math.inf
        for k in chosen:
            stopped = max(stopped, float(lows[k]))
            left = (*pool[:k], *pool[k + 1 :])
            if self.mean >= table[k, 0]:
                run.offer(float(lows[k]), _boxes(steps[k]), self.problem.box)
            rise = (high[k] - low[k], highs[k] - lows[k])
            if left and not self._dominated(left, float(lows[k]), float(slopes[k]), rise):
                run.push(min(bound, float(highs[k])), _Node(self, steps[k], left))
        return stopped

    def _step(self, before: _Step | None, i: int, table: Array) -> _Step:
        box = self.grid.boxes[i]
        return _Step(before, i, box.cost, box.probs, table[box.columns])

    def _tables(self, pool: tuple[int, ...]) -> tuple[Array, Array]:
        """([m, K] W of the pool without each box, [m] its value at β), the rest included."""
        rows = np.array([self.rows[i] for i in pool])
        before, after = np.ones_like(rows), np.ones_like(rows)
        np.cumprod(rows[:-1], axis=0, out=before[1:])
        np.cumprod(rows[:0:-1], axis=0, out=after[-2::-1])
        cdf = before * after * self.relaxation.rest
        table = np.empty_like(cdf)
        table[:, -1] = self.grid.points[-1]
        areas = (cdf[:, :-1] * self.grid.gaps)[:, ::-1]
        table[:, :-1] = self.grid.points[-1] - np.cumsum(areas, axis=1)[:, ::-1]
        beta = self.relaxation.beta
        k = int(np.searchsorted(self.grid.points, beta, side="right")) - 1
        return table, table[:, k] + cdf[:, k] * (beta - self.grid.points[k])

    def _try(self, node: _Node, tail: list[int]) -> None:
        order = (*_boxes(node.path), *tail)
        self.run.offer(order_value(self.grid, order, self.problem.box), order, self.problem.box)

    def _first_of_kind(self, i: int, pool: tuple[int, ...]) -> bool:
        return next(k for k in pool if self.kinds[k] == self.kinds[i]) == i

    def _dominated(
        self, left: tuple[int, ...], low: float, slope: float, rise: tuple[float, float]
    ) -> bool:
        """Whether another path to the same pool is worth at least as much, whatever A is.

        What a path makes of A is convex: the tangent at the lower end bounds the other from
        below, and the chord over [low, low + rise[0]], which gains rise[1], this one from above.
        """
        entries = self.seen.setdefault(frozenset(left), [])
        for other, steep in entries:
            if other >= low and other + steep * rise[0] >= low + rise[1]:
                return True
        entries.append((low, slope))
        return False


def _kinds(reduced: Reduced, problem: Backup) -> dict[int, object]:
    return {i: reduced.original.box(reduced.names[i]).type_key for i in problem.pool}


def _opened(steps: list[_Step], value: Array) -> tuple[Array, Array]:
    """([m] values before each step of what is worth `value` after it, [m] their slopes)."""
    found, slope = np.empty(len(steps)), np.empty(len(steps))
    for k, step in enumerate(steps):
        found[k] = -step.cost + step.probs @ np.maximum(value[k], step.search)
        slope[k] = step.probs @ (step.search <= value[k])
    return found, slope


def _carried(step: _Step | None, value: Array, slope: Array) -> tuple[Array, Array]:
    """([m] values at the start of what is worth `value` at the end of a path, [m] slopes)."""
    while step is not None:
        below = step.search[:, None] <= value[None, :]
        slope = slope * (step.probs @ below)
        value = -step.cost + step.probs @ np.where(below, value[None, :], step.search[:, None])
        step = step.before
    return value, slope


def _boxes(step: _Step | None) -> tuple[int, ...]:
    def back(at: _Step | None) -> Iterator[int]:
        while at is not None:
            yield at.box
            at = at.before

    return tuple(back(step))[::-1]
