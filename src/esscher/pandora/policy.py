"""Policies in two phases: a fixed order, then Weitzman's rule or one box taken unseen.

Among them is an optimal one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError
from esscher.pandora.instance import PandoraInstance
from esscher.pandora.weitzman import Grid, opening_order

__all__ = ["Action", "Claim", "Open", "Take", "TwoPhasePolicy", "order_value"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Open:
    """Pay for a closed box and see its value."""

    name: str


@dataclass(frozen=True)
class Take:
    """Stop with the value of an opened box, or with the outside option where the name is None."""

    name: str | None


@dataclass(frozen=True)
class Claim:
    """Stop with a closed box, unseen."""

    name: str


Action = Open | Take | Claim


@dataclass(frozen=True)
class TwoPhasePolicy:
    """Open `order` one by one; switch for good to Weitzman's rule once what was seen allows it.

    After the t-th box of the order, with y the best value seen and S_t what is still closed, the
    policy switches if W(S_t, y) ≥ A_t, which is y ≥ `thresholds[t]`; W is the value of obligatory
    search and A_t what the rest of the order is worth with nothing in hand. After the switch it
    opens by falling reservation value while that exceeds y, then takes the best. If the order
    ends without a switch, it takes the box `backup` unseen. Without a backup A at the end of the
    order is W(S, outside): the policy then always switches.

    Attributes:
        instance: the boxes.
        order: names of the boxes of phase 1; () goes straight to the end.
        backup: the name of a box not in the order, or None.

    Raises:
        ConfigError: if a name is unknown or repeated, the backup is in the order, or inspection
            is obligatory and there is a backup.
    """

    instance: PandoraInstance
    order: tuple[str, ...] = ()
    backup: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(self.order))
        used = [*self.order, *([] if self.backup is None else [self.backup])]
        for name in used:
            self.instance.index(name)
        if len(set(used)) < len(used):
            raise ConfigError(
                f"every box has one place, in the order or as backup; got {self.order} and "
                f"{self.backup!r}"
            )
        if self.backup is not None and self.instance.inspection == "obligatory":
            raise ConfigError(
                f"inspection is obligatory, so {self.backup!r} cannot be taken unseen"
            )

    @cached_property
    def thresholds(self) -> tuple[float, ...]:
        """τ_t: after the t-th box of the order the policy switches if the best value is ≥ τ_t.

        In the units of the values; -inf where it always switches.
        """
        return tuple(t + self.instance.base for t in self._evaluated[0])

    @cached_property
    def value(self) -> float:
        """The expected payoff, exact: O(nK) for a grid of K points."""
        return self._evaluated[1] + self.instance.base

    @cached_property
    def _evaluated(self) -> tuple[list[float], float]:
        """Thresholds and value, counted from the base of the instance."""
        grid = Grid(self.instance)
        order = [self.instance.index(name) for name in self.order]
        backup = None if self.backup is None else self.instance.index(self.backup)
        return _evaluate(grid, order, backup)

    def switches(self, t: int, best: float) -> bool:
        """Whether it goes over to Weitzman's rule after t boxes of the order.

        Args:
            t: 0 to the length of the order.
            best: the largest value seen, or the outside option.
        """
        if t == 0:
            return not self.order and self.backup is None
        return best - self.instance.base >= self._evaluated[0][t - 1]

    def next_action(self, opened: Mapping[str, float]) -> Action:
        """What to do after these boxes were opened with these values.

        A value need not be one of the box's atoms.

        Raises:
            ConfigError: if a box is unknown, a value is not finite, or the policy would not have
                opened these boxes on these values.
        """
        for name, value in opened.items():
            self.instance.index(name)
            if not math.isfinite(value):
                raise ConfigError(f"box {name!r}: the value seen must be finite, got {value}")
        best = self.instance.outside
        for t, name in enumerate(self.order):
            if self.switches(t, best):
                return self._search(opened, self.order[:t], best)
            if name not in opened:
                return self._first(Open(name), opened, self.order[:t])
            best = max(best, opened[name])
        if self.backup is None or self.switches(len(self.order), best):
            return self._search(opened, self.order, best)
        return self._first(Claim(self.backup), opened, self.order)

    def search_order(self, done: Sequence[str] = ()) -> tuple[str, ...]:
        """The boxes other than `done` by falling reservation value: the order after a switch."""
        boxes = self.instance.boxes
        places = opening_order([box.sigma for box in boxes])
        return tuple(boxes[i].name for i in places if boxes[i].name not in set(done))

    def to_dict(self) -> dict[str, Any]:
        """The certificate, order and backup, with the thresholds that follow from it."""
        return {
            "order": list(self.order),
            "backup": self.backup,
            "thresholds": [t if math.isfinite(t) else None for t in self.thresholds],
        }

    def _search(self, opened: Mapping[str, float], done: tuple[str, ...], best: float) -> Action:
        """Weitzman's rule on all but `done`."""
        seen = list(done)
        for name in self.search_order(done):
            if self.instance.box(name).sigma <= best:
                break
            if name not in opened:
                return self._first(Open(name), opened, tuple(seen))
            seen.append(name)
            best = max(best, opened[name])
        if best <= self.instance.outside:
            return self._first(Take(None), opened, tuple(seen))
        first = next(name for name in seen if opened[name] == best)
        return self._first(Take(first), opened, tuple(seen))

    def _first(self, action: Action, opened: Mapping[str, float], due: tuple[str, ...]) -> Action:
        """`action`, if no more was opened than the policy had asked for by then."""
        extra = [name for name in opened if name not in due]
        if extra:
            raise ConfigError(
                f"this policy does not open {extra[0]!r} on these values: after {list(due)} it "
                f"says {action}"
            )
        return action


def order_value(grid: Grid, order: Sequence[int], backup: int | None) -> float:
    """What an order and a backup are worth at least, by A ← -c + E max(A, W(S, X)), from 0.

    Equal to the policy's value where W(S_t, y) < A_t is implied by W(S_{t-1}, y) < A_{t-1}, so
    for optimal ones; never above it.
    """
    cdf = grid.product(sorted(set(range(len(grid.boxes))) - set(order)))
    value = _end(grid, cdf, backup)
    for i in reversed(order):
        box = grid.boxes[i]
        value = -box.cost + float(box.probs @ np.maximum(value, grid.search(cdf)[box.columns]))
        cdf = cdf * grid.row(i)
    return value


def _end(grid: Grid, cdf: Array, backup: int | None) -> float:
    return float(grid.search(cdf)[0]) if backup is None else grid.boxes[backup].mean


def _evaluate(grid: Grid, order: Sequence[int], backup: int | None) -> tuple[list[float], float]:
    """Thresholds, and the value with the best value seen kept throughout.

    `ahead` is [K], the value of what follows with y in hand, at the points.
    """
    cdf = grid.product(sorted(set(range(len(grid.boxes))) - set(order)))
    search = grid.search(cdf)
    plain = _end(grid, cdf, backup)
    ahead = search if backup is None else np.full(len(grid), plain)
    taus: list[float] = []
    for i in reversed(order):
        taus.append(_threshold(grid, cdf, search, plain))
        kept = np.where(grid.points >= taus[-1], search, ahead)
        box = grid.boxes[i]
        plain = -box.cost + float(box.probs @ np.maximum(plain, search[box.columns]))
        ahead = -box.cost + _mean_of_best(box.columns, box.probs, kept)
        cdf = cdf * grid.row(i)
        search = grid.search(cdf)
    return taus[::-1], float(ahead[0])


def _mean_of_best(columns: NDArray[np.int64], probs: Array, value: Array) -> Array:
    """[K] E value(max(y, X)) at every point y."""
    n = len(value)
    mass = np.bincount(columns, weights=probs, minlength=n)
    weighted = np.bincount(columns, weights=probs * value[columns], minlength=n)
    below = np.cumsum(mass)
    above = np.append(np.cumsum(weighted[:0:-1])[::-1], 0.0)
    found: Array = below * value + above
    return found


def _threshold(grid: Grid, cdf: Array, search: Array, plain: float) -> float:
    """The least y with W(S, y) ≥ A, ties going to the switch; -inf where it is always so."""
    k = int(np.searchsorted(search, plain - grid.tie))
    if k == 0:
        return -math.inf
    if k == len(grid):
        return plain
    root = grid.points[k - 1] + (plain - search[k - 1]) / cdf[k - 1]
    return float(min(root, grid.points[k]))
