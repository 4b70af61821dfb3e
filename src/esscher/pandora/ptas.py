"""The approximation scheme: (1 - ε) of the optimum in time n^O(ε^-2 log 1/ε), for any boxes.

For every box that may be worth claiming unseen, the guesses of `scheme` are gone through, the most
promising first; a guess that cannot beat the best policy found by more than a factor 1 / (1 - ε) is
not followed. The theorem and its proof are in docs/systems/pandora.md, "The approximation scheme".
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from esscher.errors import ConfigError
from esscher.pandora.bounds import upper_bound
from esscher.pandora.exact import Found, committing_certificate
from esscher.pandora.instance import PandoraInstance
from esscher.pandora.policy import order_value
from esscher.pandora.result import Result, relative_gap
from esscher.pandora.scheme import Scheme
from esscher.pandora.screening import Backup, Reduced, candidates, reduce, with_backup
from esscher.pandora.weitzman import Grid, weitzman_value

__all__ = ["solve_ptas"]


@dataclass
class _Search:
    """The best policy so far, its value counted from the base of the grid, and what it took."""

    grid: Grid
    eps: float
    end: float
    best: Found
    states: int = 0
    complete: bool = True

    def offer(self, order: tuple[int, ...], backup: int) -> None:
        """Keep an order if it is better."""
        value = order_value(self.grid, order, backup)
        if value > self.best.value:
            self.best = Found(value, order, backup, 0)

    def go_through(self, scheme: Scheme, backup: Backup) -> None:
        """All guesses that could beat the best by more than 1 / (1 - ε)."""
        ahead = _Prefix(self.grid, backup)
        self.offer(backup.prefix, backup.box)
        above = [self._least(ahead, scheme)]
        for step in scheme.steps(above):
            self.offer((*backup.prefix, *step.order), backup.box)
            self.states += step.states
            if self.best.value >= (1 - self.eps) * backup.bound:
                return
            if time.monotonic() > self.end:
                self.complete = False
                return
            above[0] = self._least(ahead, scheme)
        self.complete &= scheme.sums is not None

    def _least(self, ahead: _Prefix, scheme: Scheme) -> float:
        """A guess is of use if it promises more than this."""
        return ahead.inverse(self.best.value / (1 - self.eps)) - 2 * scheme.delta


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
    first = committing_certificate(reduced)
    search = _Search(reduced.grid, eps, end, first)
    if first.value > 0:
        backups = [
            with_backup(reduced.grid, j, bound)
            for bound, j in candidates(reduced.grid, first.value / (1 - eps))
        ]
        schemes = [Scheme(reduced.grid, one, first.value, eps) for one in backups]
        if tell is not None:
            tell(_cost(schemes))
        for scheme, one in zip(schemes, backups, strict=True):
            search.go_through(scheme, one)
    found = _result(instance, reduced, search, first.value)
    return replace(found, seconds=time.monotonic() - began)


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
    instance: PandoraInstance, reduced: Reduced, search: _Search, committing: float
) -> Result:
    policy = reduced.policy(search.best.order, search.best.backup)
    value, base, bound = policy.value, reduced.grid.base, upper_bound(instance)
    note = "not all guesses were gone through; the bound is that of the boxes one by one"
    if search.complete:
        bound = min(bound, base + (value - base) / (1 - search.eps))
        note = "no guess is left that could beat it by more than eps"
    bound = max(bound, value)
    gap = relative_gap(value, bound)
    return Result(
        value=value,
        upper_bound=bound,
        gap=gap,
        certified=gap <= search.eps * (1 + 1e-9),
        method="ptas",
        policy=policy,
        weitzman=weitzman_value(instance),
        committing=base + committing,
        seconds=0.0,
        work=search.states,
        note=note,
    )
