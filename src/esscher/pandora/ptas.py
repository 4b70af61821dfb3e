"""The approximation scheme: (1 - ε) of the optimum in time n^O(ε^-2 log 1/ε), for any boxes.

For every box that may be worth claiming unseen, the guesses of `scheme` are gone through, the most
promising first; a guess that cannot beat the best policy found by more than a factor 1 / (1 - ε) is
not followed. The theorem and its proof are in docs/systems/pandora.md, "The approximation scheme".
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from esscher.errors import ConfigError
from esscher.pandora.bounds import Committing, best_committing, upper_bound
from esscher.pandora.instance import PandoraInstance
from esscher.pandora.policy import order_value
from esscher.pandora.result import Result, relative_gap
from esscher.pandora.scheme import Scheme
from esscher.pandora.screening import Backup, Reduced, candidates, reduce, with_backup
from esscher.pandora.weitzman import Grid, opening_order, weitzman_value

__all__ = ["solve_ptas"]


@dataclass
class _Best:
    """The best policy so far; its value is counted from the base of the grid."""

    value: float
    order: list[int]
    backup: int | None

    def offer(self, grid: Grid, order: list[int], backup: int) -> None:
        """Keep an order if it is better."""
        value = order_value(grid, order, backup)
        if value > self.value:
            self.value, self.order, self.backup = value, order, backup


def solve_ptas(
    instance: PandoraInstance,
    eps: float,
    *,
    time_limit: float | None = None,
    tell: Callable[[str], None] | None = None,
) -> Result:
    """A policy worth (1 - ε) of the optimum, both counted from the floor of the instance.

    The floor is the outside option, or the largest mean of a box that no policy opens.

    Args:
        instance: the boxes; inspection is nonobligatory.
        eps: ε in (0, 1).
        time_limit: seconds after which the best policy so far is given back, with the bound known
            by then; None for none.
        tell: is told the cost before the work begins.

    Raises:
        ConfigError: if eps is not in (0, 1), the time limit is negative, or inspection is
            obligatory.
    """
    _check(instance, eps, time_limit)
    began = time.monotonic()
    end = math.inf if time_limit is None else began + time_limit
    reduced = reduce(instance)
    grid = reduced.grid
    first = best_committing(grid)
    best = _committed(grid, first)
    work, complete = 0, True
    if first.value > 0:
        backups = [
            with_backup(grid, j, bound)
            for bound, j in candidates(grid, first.value / (1 - eps))
        ]
        schemes = [Scheme(grid, one, first.value, eps) for one in backups]
        if tell is not None:
            tell(_cost(schemes))
        for scheme, one in zip(schemes, backups, strict=True):
            done, states = _search(grid, scheme, one, best, eps, end)
            complete, work = complete and done, work + states
    return _result(instance, reduced, best, first.value, eps, complete, work, began)


def _committed(grid: Grid, first: Committing) -> _Best:
    """The committing policy: all boxes worth opening before the backup is claimed, by falling σ."""
    if first.backup is None:
        return _Best(first.value, [], None)
    least = grid.boxes[first.backup].mean
    order = [
        i
        for i in opening_order([box.sigma for box in grid.boxes])
        if i != first.backup and grid.boxes[i].sigma > least
    ]
    return _Best(order_value(grid, order, first.backup), order, first.backup)


def _check(instance: PandoraInstance, eps: float, time_limit: float | None) -> None:
    if not 0 < eps < 1:
        raise ConfigError(f"the approximation scheme needs eps in (0, 1), got {eps}")
    if time_limit is not None and time_limit < 0:
        raise ConfigError(f"time_limit must be at least 0 seconds, got {time_limit}")
    if instance.inspection != "nonobligatory":
        raise ConfigError(
            "the approximation scheme is for nonobligatory inspection; with obligatory inspection "
            "method weitzman is exact"
        )


def _search(
    grid: Grid, scheme: Scheme, backup: Backup, best: _Best, eps: float, end: float
) -> tuple[bool, int]:
    """Go through the guesses of one backup box.

    Returns:
        Whether none is left that could beat the best by more than 1 / (1 - ε); and the states.
    """
    ahead, states = _Prefix(grid, backup), 0
    best.offer(grid, list(backup.prefix), backup.box)
    above = [ahead.inverse(best.value / (1 - eps)) - 2 * scheme.delta]
    for step in scheme.steps(above):
        best.offer(grid, [*backup.prefix, *step.order], backup.box)
        states += step.states
        if best.value >= (1 - eps) * backup.bound:
            return True, states
        if time.monotonic() > end:
            return False, states
        above[0] = ahead.inverse(best.value / (1 - eps)) - 2 * scheme.delta
    return scheme.sums is not None, states


class _Prefix:
    """What the whole is worth, given what is worth what follows the boxes that are opened first."""

    def __init__(self, grid: Grid, backup: Backup) -> None:
        cdf = grid.product([*backup.pool, *backup.rest])
        self.steps = []
        for i in reversed(backup.prefix):
            box = grid.boxes[i]
            self.steps.append((box.cost, box.probs, grid.search(cdf)[box.columns]))
            cdf = cdf * grid.row(i)

    def __call__(self, value: float) -> float:
        """Nondecreasing in the value of what follows, with slope at most 1."""
        for cost, probs, switched in self.steps:
            value = float(probs @ switched.clip(value)) - cost
        return value

    def inverse(self, wanted: float) -> float:
        """The least value of what follows that makes the whole worth what is wanted, or less."""
        low, high = 0.0, max(wanted, 0.0)
        while self(high) < wanted:
            high = 2 * high + 1
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self(middle) < wanted else (low, middle)
        return low


def _cost(schemes: list[Scheme]) -> str:
    """One sentence."""
    if not schemes:
        return "no box needs a search: committing is within eps of the bound"
    plans = [scheme.plan() for scheme in schemes]
    worst = max(plans, key=lambda plan: plan.log10_states)
    total = worst.log10_states + math.log10(
        sum(10.0 ** (plan.log10_states - worst.log10_states) for plan in plans)
    )
    return (
        f"{len(plans)} backup boxes; at most {worst.boxes} boxes in {worst.blocks} blocks of "
        f"{worst.levels} levels, {worst.statistics} statistics: fewer than 10^{total:.0f} states"
    )


def _result(
    instance: PandoraInstance,
    reduced: Reduced,
    best: _Best,
    committing: float,
    eps: float,
    complete: bool,
    work: int,
    began: float,
) -> Result:
    policy = reduced.policy(best.order, best.backup)
    value, base = policy.value, reduced.grid.base
    bound = upper_bound(instance)
    if complete:
        bound = min(bound, base + (value - base) / (1 - eps))
    bound = max(bound, value)
    gap = relative_gap(value, bound)
    note = (
        "all guesses that matter were gone through"
        if complete
        else "not all guesses were gone through; the bound is that of the boxes one by one"
    )
    return Result(
        value=value,
        upper_bound=bound,
        gap=gap,
        certified=gap <= eps * (1 + 1e-9),
        method="ptas",
        policy=policy,
        weitzman=weitzman_value(instance),
        committing=base + committing,
        seconds=time.monotonic() - began,
        work=work,
        note=note,
    )
