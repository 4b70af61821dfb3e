"""Better orders for a given backup, by single changes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from esscher.pandora.policy import order_value
from esscher.pandora.screening import Backup
from esscher.pandora.weitzman import Grid

__all__ = ["improve"]

REACH = 4
"""How far a box is moved within the order."""


def improve(
    grid: Grid, problem: Backup, order: Sequence[int], deadline: float
) -> tuple[float, list[int]]:
    """(value, order after the prefix) where no change of one box helps, or time is up.

    A change leaves a box out, puts one in anywhere, or moves one by up to four places.

    Args:
        grid: of the instance.
        problem: whose prefix stays as it is.
        order: of boxes of the pool, to start from.
        deadline: in the seconds of `time.monotonic`.
    """
    best = list(order)
    value = order_value(grid, (*problem.prefix, *best), problem.box)
    again = True
    while again and time.monotonic() < deadline:
        again = False
        for tried in _changes(best, problem.pool):
            found = order_value(grid, (*problem.prefix, *tried), problem.box)
            if found > value + grid.tie:
                best, value, again = tried, found, True
                break
            if time.monotonic() >= deadline:
                break
    return value, best


def _changes(order: list[int], pool: Sequence[int]) -> Iterator[list[int]]:
    n = len(order)
    for k in range(n):
        yield order[:k] + order[k + 1 :]
    for i in sorted(set(pool) - set(order)):
        for k in range(n, -1, -1):
            yield [*order[:k], i, *order[k:]]
    for step in range(1, REACH + 1):
        for k in range(n - step):
            rest = order[:k] + order[k + 1 :]
            yield [*rest[: k + step], order[k], *rest[k + step :]]
            if step > 1:
                moved = order[k + step]
                rest = order[: k + step] + order[k + step + 1 :]
                yield [*rest[:k], moved, *rest[k:]]
