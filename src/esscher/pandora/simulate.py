"""Policies played many times: what they earn, what they spend, and how they end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esscher.errors import ConfigError, NumericsError, ShapeError
from esscher.pandora.commit import CommittingPolicy
from esscher.pandora.instance import PandoraInstance
from esscher.pandora.occupancy import switching
from esscher.pandora.policy import Action, Claim, Open, Take, TwoPhasePolicy

__all__ = ["Mean", "Policy", "Simulation", "simulate"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Source = Callable[[int, Rows], Array]
TAKE, CLAIM, OUTSIDE = 0, 1, 2


class Policy(Protocol):
    """Whoever can be asked for the next action."""

    def next_action(self, opened: Mapping[str, float]) -> Action:
        """What to do after these boxes were opened with these values."""
        ...


@dataclass(frozen=True)
class Mean:
    """A mean over independent plays, as logs, tables and reports show it.

    Attributes:
        mean: the value.
        se: standard error, inf for a single play.
        n: plays, at least 1.
    """

    mean: float
    se: float
    n: int

    def interval(self) -> tuple[float, float]:
        """Normal 95 % confidence interval."""
        return self.mean - 1.96 * self.se, self.mean + 1.96 * self.se

    def to_json(self) -> dict[str, float | int | None]:
        """{"mean", "se", "n"}; None stands for an unknown error."""
        return {
            "mean": self.mean,
            "se": self.se if math.isfinite(self.se) else None,
            "n": self.n,
        }


@dataclass(frozen=True)
class Simulation:
    """What n plays of a policy came to.

    Attributes:
        payoff: the value taken less all costs.
        value: the value taken.
        cost: of all inspections of a play.
        payoffs: [n] payoff of each play.
        opened: name of a box -> share of plays that opened it.
        spent: name of a box -> mean cost of opening it, per play.
        ends: share of plays that took an opened box ("take"), claimed a closed one ("claim") or
            kept the outside option ("outside").
    """

    payoff: Mean
    value: Mean
    cost: Mean
    payoffs: Array
    opened: dict[str, float]
    spent: dict[str, float]
    ends: dict[str, float]

    @property
    def mean(self) -> float:
        """Of the payoff."""
        return self.payoff.mean

    @property
    def se(self) -> float:
        """Standard error of the payoff's mean."""
        return self.payoff.se

    def off_by(self, value: float) -> float:
        """How many standard errors the mean payoff lies above a computed value.

        0 where they agree to twelve digits; inf where all plays earned the same and that is not it.
        """
        if abs(self.mean - value) <= 1e-12 * max(1.0, abs(value)):
            return 0.0
        gap = self.mean - value
        return gap / self.se if self.se > 0 else math.copysign(math.inf, gap)

    def to_json(self) -> dict[str, Any]:
        """Everything but the single payoffs, of which five quantiles."""
        marks = (0.05, 0.25, 0.5, 0.75, 0.95)
        levels = np.quantile(self.payoffs, marks)
        return {
            "payoff": self.payoff.to_json(),
            "value": self.value.to_json(),
            "cost": self.cost.to_json(),
            "ends": dict(self.ends),
            "opened": dict(self.opened),
            "spent": dict(self.spent),
            "quantiles": {f"{m:g}": float(v) for m, v in zip(marks, levels, strict=True)},
        }


class _Tally:
    """What each play has in hand and has paid, and how it ended."""

    def __init__(self, instance: PandoraInstance, source: Source, n: int) -> None:
        self.instance, self.source = instance, source
        self.best = np.full(n, instance.outside)
        self.value, self.cost = np.empty(n), np.zeros(n)
        self.end = np.full(n, OUTSIDE)
        self.opened = np.zeros(len(instance), dtype=np.int64)

    def open(self, i: int, rows: Rows) -> Array:
        """The values of a box in these plays, which pay for it."""
        found = self.source(i, rows)
        self.cost[rows] += self.instance.boxes[i].cost
        self.best[rows] = np.maximum(self.best[rows], found)
        self.opened[i] += len(rows)
        return found

    def take(self, rows: Rows) -> None:
        """These plays end with the best they have."""
        self.value[rows] = self.best[rows]
        self.end[rows] = np.where(self.best[rows] > self.instance.outside, TAKE, OUTSIDE)

    def claim(self, i: int, rows: Rows) -> None:
        """These plays end with a closed box, whatever is in it."""
        self.value[rows] = self.source(i, rows)
        self.end[rows] = CLAIM

    def search(self, boxes: list[int], rows: Rows, floor: float = -math.inf) -> Rows:
        """Weitzman's rule with `floor` in hand besides; the plays that have not reached it."""
        going = rows
        for i in boxes:
            sigma = self.instance.boxes[i].sigma
            if not len(going) or sigma <= floor:
                break
            going = going[self.best[going] < sigma]
            self.open(i, going)
        short = self.best[rows] < floor
        self.take(rows[~short])
        return rows[short]


def simulate(
    instance: PandoraInstance,
    policy: Policy,
    n: int = 100_000,
    seed: int = 0,
    *,
    scenarios: ArrayLike | None = None,
) -> Simulation:
    """Play a policy many times.

    Two-phase and committing policies are played all at once; any other one is asked for its next
    action once per history that occurs.

    Args:
        instance: the boxes.
        policy: what to do with them.
        n: plays, at least 1; with scenarios one per row instead.
        seed: of the values.
        scenarios: [n, boxes] values of all boxes in each play, which may depend on each other.
            The policy's value holds for independent boxes only; this is the way to see what it
            earns on others.

    Raises:
        ConfigError: if n is below 1, or the policy opens or claims an opened box or takes a closed
            one.
        ShapeError: if scenarios are not [n, boxes].
        NumericsError: if a scenario is not finite.
    """
    source, n = _source(instance, n, seed, scenarios)
    tally, every = _Tally(instance, source, n), np.arange(n)
    if isinstance(policy, TwoPhasePolicy):
        _two_phases(tally, policy, every)
    elif isinstance(policy, CommittingPolicy):
        _committed(tally, policy, every)
    else:
        _ask(tally, policy, every)
    return _result(instance, tally)


def _source(
    instance: PandoraInstance, n: int, seed: int, scenarios: ArrayLike | None
) -> tuple[Source, int]:
    if scenarios is not None:
        table = np.asarray(scenarios, dtype=np.float64)
        if table.ndim != 2 or table.shape[1] != len(instance) or not len(table):
            raise ShapeError(
                f"scenarios must be [n, {len(instance)}], a column per box, got {table.shape}"
            )
        if not bool(np.isfinite(table).all()):
            row, column = (int(k[0]) for k in np.nonzero(~np.isfinite(table)))
            raise NumericsError(f"scenario {row} of box {instance.names[column]!r} is not finite")
        return lambda i, rows: table[rows, i], len(table)
    if n < 1:
        raise ConfigError(f"a simulation needs n >= 1 plays, got {n}")
    rng = np.random.default_rng(seed)
    steps = [np.cumsum(box.probs)[:-1] for box in instance.boxes]

    def draw(i: int, rows: Rows) -> Array:
        # A play sees a box at most once, so that fresh draws are the play's own.
        places = np.searchsorted(steps[i], rng.random(len(rows)), side="right")
        return instance.boxes[i].values[places]

    return draw, n


def _two_phases(tally: _Tally, policy: TwoPhasePolicy, rows: Rows) -> None:
    instance = tally.instance
    for t in range(len(policy.order) + 1):
        gone = switching(policy, t, tally.best[rows])
        closed = [instance.index(name) for name in policy.search_order(policy.order[:t])]
        tally.search(closed, rows[gone])
        rows = rows[~gone]
        if t < len(policy.order):
            tally.open(instance.index(policy.order[t]), rows)
    if policy.backup is not None:
        tally.claim(instance.index(policy.backup), rows)


def _committed(tally: _Tally, policy: CommittingPolicy, rows: Rows) -> None:
    boxes = [tally.instance.index(name) for name in policy.search_order()]
    short = tally.search(boxes, rows, policy.floor)
    if policy.closed is not None:
        tally.claim(tally.instance.index(policy.closed), short)


def _ask(tally: _Tally, policy: Policy, rows: Rows) -> None:
    """Plays with the same history stay together until they see different values."""
    todo: list[tuple[dict[str, float], Rows]] = [({}, rows)]
    while todo:
        opened, rows = todo.pop()
        action = policy.next_action(opened)
        name = action.name
        if (name in opened) != (isinstance(action, Take) and name is not None):
            raise ConfigError(f"the policy says {action} after {opened}, which cannot be done")
        if isinstance(action, Open):
            found = tally.open(tally.instance.index(action.name), rows)
            todo += [
                ({**opened, action.name: float(v)}, rows[found == v]) for v in np.unique(found)
            ]
        elif isinstance(action, Claim):
            tally.claim(tally.instance.index(action.name), rows)
        else:
            tally.value[rows] = tally.instance.outside if name is None else opened[name]
            tally.end[rows] = OUTSIDE if name is None else TAKE


def _result(instance: PandoraInstance, tally: _Tally) -> Simulation:
    n = len(tally.value)
    payoffs = tally.value - tally.cost
    shares = tally.opened / n
    counts = np.bincount(tally.end, minlength=3) / n
    return Simulation(
        payoff=_mean(payoffs),
        value=_mean(tally.value),
        cost=_mean(tally.cost),
        payoffs=payoffs,
        opened={name: float(s) for name, s in zip(instance.names, shares, strict=True)},
        spent={
            box.name: box.cost * float(s) for box, s in zip(instance.boxes, shares, strict=True)
        },
        ends={"take": float(counts[0]), "claim": float(counts[1]), "outside": float(counts[2])},
    )


def _mean(values: Array) -> Mean:
    n = len(values)
    mean = float(values.mean())
    if math.isnan(mean) or math.isinf(mean):
        raise NumericsError(
            "a play ended with nothing: there is no outside option, and the policy took no box"
        )
    return Mean(mean, float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf, n)
