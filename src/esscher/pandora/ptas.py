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
from esscher.pandora.branch_and_bound import Bounded
from esscher.pandora.exact import Found, committing_certificate
from esscher.pandora.local_search import improve
from esscher.pandora.policy import order_value
from esscher.pandora.scheme import Scheme
from esscher.pandora.screening import Backup, Reduced, candidates, with_backup
from esscher.pandora.weitzman import Grid

__all__ = ["approximation_scheme"]


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
        # A good order to begin with spares guesses; the guarantee does not need it.
        _, tail = improve(self.grid, backup, backup.pool, self.end)
        self.offer((*backup.prefix, *tail), backup.box)
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


def approximation_scheme(
    reduced: Reduced,
    upper: float,
    eps: float,
    *,
    time_limit: float | None = None,
    tell: Callable[[str], None] | None = None,
) -> Bounded:
    """A policy worth (1 - ε) of the optimum, both counted from the base of the grid.

    Args:
        reduced: the instance.
        upper: a bound on every policy, from the base of the grid.
        eps: ε in (0, 1).
        time_limit: seconds after which the best policy so far is given back, with the bound known
            by then; None for none.
        tell: is told the cost before the work begins.

    Raises:
        ConfigError: if eps is not in (0, 1).
    """
    if not 0 < eps < 1:
        raise ConfigError(f"the approximation scheme needs eps in (0, 1), got {eps}")
    end = math.inf if time_limit is None else time.monotonic() + time_limit
    grid, first = reduced.grid, committing_certificate(reduced)
    search = _Search(grid, eps, end, first)
    if first.value > 0:
        found = candidates(grid, first.value / (1 - eps))
        backups = [with_backup(grid, j, bound) for bound, j in found]
        schemes = [Scheme(grid, one, first.value, eps) for one in backups]
        if tell is not None:
            tell(_cost(schemes))
        for scheme, one in zip(schemes, backups, strict=True):
            search.go_through(scheme, one)
    best = search.best
    if search.complete:
        upper = min(upper, best.value / (1 - eps))
    counted = Found(best.value, best.order, best.backup, search.states)
    return Bounded(counted, max(upper, best.value), search.complete)


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
