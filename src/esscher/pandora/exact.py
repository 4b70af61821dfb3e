"""The optimum, by the values of all sets of boxes that may matter.

An optimal policy takes at most one fixed box j unseen. For each j that the bounds leave in
question, `with_backup` says which boxes come first, and the lattice of the others gives the value
and the order. Boxes alike are counted, not listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from esscher.errors import ConfigError
from esscher.pandora.bounds import best_committing
from esscher.pandora.lattice import Lattice
from esscher.pandora.policy import order_value
from esscher.pandora.screening import Backup, Reduced, candidates, with_backup

__all__ = [
    "MAX_BYTES",
    "Found",
    "check_memory",
    "committing_certificate",
    "lattice_bytes",
    "lattice_of",
    "plan",
    "solve_exact",
]

MAX_BYTES = 2**26
"""Default limit of the table of values: 22 boxes and a bit."""


@dataclass(frozen=True)
class Found:
    """A certificate, its value from the base of the grid, and the number of states looked at."""

    value: float
    order: tuple[int, ...]
    backup: int | None
    states: int


def lattice_of(reduced: Reduced, problem: Backup, *, grouped: bool = True) -> Lattice:
    """The lattice of a backup's pool; with `grouped` False boxes alike are told apart."""
    boxes = reduced.original
    types: dict[object, list[int]] = defaultdict(list)
    for i in problem.pool:
        key = boxes.box(reduced.names[i]).type_key if grouped else i
        types[key].append(i)
    return Lattice(
        reduced.grid, problem.rest, list(types.values()), reduced.grid.boxes[problem.box].mean
    )


def lattice_bytes(lattice: Lattice) -> int:
    """Memory of the table of values."""
    return 8 * lattice.states


def plan(reduced: Reduced) -> list[Backup]:
    """The backups that may beat committing, each with what is left to search."""
    start = best_committing(reduced.grid).value
    return [
        with_backup(reduced.grid, j, bound)
        for bound, j in candidates(reduced.grid, start + reduced.grid.tie)
    ]


def solve_exact(
    reduced: Reduced,
    problems: Sequence[Backup] | None = None,
    *,
    grouped: bool = True,
    max_bytes: int = MAX_BYTES,
) -> Found:
    """The best certificate over all policies.

    Args:
        reduced: the instance.
        problems: what `plan` found; computed if None.
        grouped: count boxes alike.
        max_bytes: of the largest table.

    Raises:
        ConfigError: if a table would be larger, saying how large.
    """
    grid = reduced.grid
    start = best_committing(grid)
    best = committing_certificate(reduced)
    states = 0
    for problem in plan(reduced) if problems is None else problems:
        if problem.bound <= best.value + grid.tie:
            continue
        lattice = lattice_of(reduced, problem, grouped=grouped)
        check_memory(lattice, max_bytes)
        solved = lattice.solve()
        states += lattice.states
        tail, claims = solved.order()
        order = (*problem.prefix, *tail)
        if claims:
            value = order_value(grid, order, problem.box)
            if value > best.value + grid.tie:
                best = Found(value, order, problem.box, 0)
    return Found(max(best.value, start.value), best.order, best.backup, states)


def committing_certificate(reduced: Reduced) -> Found:
    """The best committing policy as an order and a backup.

    With a backup j, the boxes whose σ exceeds E X_j are opened by falling σ, and then j is taken.
    """
    grid = reduced.grid
    found = best_committing(grid)
    if found.backup is None:
        return Found(found.value, (), None, 0)
    j = found.backup
    others = [
        i for i in range(len(grid.boxes)) if i != j and grid.boxes[i].sigma > grid.boxes[j].mean
    ]
    return Found(found.value, tuple(_by_sigma(reduced, others)), j, 0)


def check_memory(lattice: Lattice, max_bytes: int) -> None:
    """Refuse a table that is too large.

    Raises:
        ConfigError: with the bytes needed and allowed.
    """
    needed = lattice_bytes(lattice)
    if needed > max_bytes:
        raise ConfigError(
            f"the exact table of {lattice.states} states takes {needed} bytes, more than the "
            f"{max_bytes} allowed; raise max_bytes, or use method='bnb'"
        )


def _by_sigma(reduced: Reduced, places: Sequence[int]) -> list[int]:
    return sorted(places, key=lambda i: (-reduced.grid.boxes[i].sigma, i))
