"""The best policy that can be had: exact where that is possible, with a bound everywhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from esscher.errors import ConfigError
from esscher.pandora.bounds import without_search
from esscher.pandora.branch_and_bound import branch_and_bound
from esscher.pandora.exact import (
    MAX_BYTES,
    Found,
    committing_certificate,
    lattice_bytes,
    lattice_of,
    plan,
    solve_exact,
)
from esscher.pandora.instance import PandoraInstance
from esscher.pandora.policy import TwoPhasePolicy
from esscher.pandora.ptas import approximation_scheme
from esscher.pandora.result import Result, relative_gap
from esscher.pandora.screening import Reduced, reduce
from esscher.pandora.weitzman import TIE

__all__ = ["METHODS", "solve"]

Method = Literal["auto", "exact", "types", "bnb", "ptas", "committing", "weitzman"]
METHODS: tuple[Method, ...] = ("auto", "exact", "types", "bnb", "ptas", "committing", "weitzman")


@dataclass(frozen=True)
class _Task:
    instance: PandoraInstance
    reduced: Reduced
    start: Found
    bound: float
    eps: float
    time_limit: float | None
    max_bytes: int
    tell: Callable[[str], None] | None


@dataclass(frozen=True)
class _Answer:
    """A policy and a bound on all policies."""

    policy: TwoPhasePolicy
    upper: float
    work: int
    note: str
    method: str


def solve(
    instance: PandoraInstance,
    eps: float = 1e-3,
    method: Method = "auto",
    *,
    time_limit: float | None = None,
    max_bytes: int = MAX_BYTES,
    tell: Callable[[str], None] | None = None,
) -> Result:
    """The best policy, its value, and an upper bound on the value of every policy.

    With obligatory inspection Weitzman's rule is optimal and is returned whatever the method.
    "auto" takes, in this order, a committing policy if the bound already certifies it; the exact
    table, which counts boxes alike, if its states fit in `max_bytes` after screening; branch and
    bound until the gap is at most `eps` or the time is over.

    Args:
        instance: the boxes.
        eps: the gap (upper_bound - value) / |upper_bound| that counts as certified, at least 0.
        method: "exact" is the table with every box told apart, "types" the one that counts boxes
            alike, "bnb" branch and bound, "ptas" the approximation scheme, "committing" and
            "weitzman" those policies with the bound that needs no search.
        time_limit: seconds for branch and bound and for the scheme, > 0; None for no limit. The
            exact table does not look at the time.
        max_bytes: of the exact table, 8 bytes a state: 2^23 states fit in the default 64 MiB,
            24 boxes that cannot be screened need 2^27.
        tell: is told what the approximation scheme may cost before it begins, and every few seconds
            how far branch and bound is.

    Raises:
        ConfigError: if a setting is out of range, or an exact table asked for does not fit; the
            message says the bytes it takes.
    """
    _check(eps, method, time_limit, max_bytes)
    begun = time.monotonic()
    plain = TwoPhasePolicy(instance)
    weitzman = plain.value
    if instance.inspection == "obligatory":
        note = "inspection is obligatory: Weitzman's rule is optimal"
        answer, committing = _Answer(plain, weitzman, 0, note, "weitzman"), weitzman
    else:
        reduced = reduce(instance)
        start = committing_certificate(reduced)
        committing = reduced.grid.base + start.value
        bound = reduced.grid.base + without_search(reduced.grid)
        answer = _METHODS[method](
            _Task(instance, reduced, start, bound, eps, time_limit, max_bytes, tell)
        )
    value = answer.policy.value
    upper = max(value, answer.upper)
    gap = relative_gap(value, upper)
    return Result(
        value,
        upper,
        gap,
        gap <= eps + TIE,
        answer.method,
        answer.policy,
        weitzman,
        committing,
        time.monotonic() - begun,
        answer.work,
        answer.note,
    )


def _auto(task: _Task) -> _Answer:
    simple = _committing(task)
    value = simple.policy.value
    if relative_gap(value, max(task.bound, value)) <= task.eps:
        return simple
    needed = max(
        (lattice_bytes(lattice_of(task.reduced, p)) for p in plan(task.reduced)), default=0
    )
    return _types(task) if needed <= task.max_bytes else _bnb(task)


def _exact(task: _Task) -> _Answer:
    return _table(task, grouped=False)


def _types(task: _Task) -> _Answer:
    return _table(task, grouped=True)


def _table(task: _Task, *, grouped: bool) -> _Answer:
    found = solve_exact(task.reduced, grouped=grouped, max_bytes=task.max_bytes)
    policy = _policy(task, found)
    method = "types" if grouped else "exact"
    return _Answer(policy, policy.value, found.states, "optimal", method)


def _bnb(task: _Task) -> _Answer:
    bounded = branch_and_bound(task.reduced, task.eps, task.time_limit, tell=task.tell)
    note = "" if bounded.finished else "stopped before the gap asked for was reached"
    upper = task.reduced.grid.base + bounded.upper
    return _Answer(_policy(task, bounded.found), upper, bounded.found.states, note, "bnb")


def _committing(task: _Task) -> _Answer:
    note = "best committing policy; bound without search"
    return _Answer(_policy(task, task.start), task.bound, 0, note, "committing")


def _weitzman(task: _Task) -> _Answer:
    note = "Weitzman's rule; bound without search"
    return _Answer(TwoPhasePolicy(task.instance), task.bound, 0, note, "weitzman")


def _ptas(task: _Task) -> _Answer:
    grid = task.reduced.grid
    bounded = approximation_scheme(
        task.reduced,
        task.bound - grid.base,
        task.eps,
        time_limit=task.time_limit,
        tell=task.tell,
    )
    note = "no guess is left that could beat it by more than eps"
    if not bounded.finished:
        note = "stopped before all guesses were gone through; bound without search"
    policy = _policy(task, bounded.found)
    return _Answer(policy, grid.base + bounded.upper, bounded.found.states, note, "ptas")


def _policy(task: _Task, found: Found) -> TwoPhasePolicy:
    return task.reduced.policy(found.order, found.backup)


_METHODS: dict[str, Callable[[_Task], _Answer]] = {
    "auto": _auto,
    "exact": _exact,
    "types": _types,
    "bnb": _bnb,
    "ptas": _ptas,
    "committing": _committing,
    "weitzman": _weitzman,
}


def _check(eps: float, method: str, time_limit: float | None, max_bytes: int) -> None:
    if not (0 <= eps < math.inf):
        raise ConfigError(f"eps must be at least 0 and finite, got {eps}")
    if method not in METHODS:
        raise ConfigError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if time_limit is not None and not time_limit > 0:
        raise ConfigError(f"time_limit must be positive or None, got {time_limit}")
    if max_bytes < 8:
        raise ConfigError(f"max_bytes must be at least 8, got {max_bytes}")
