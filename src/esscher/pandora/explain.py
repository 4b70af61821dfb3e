"""A policy in words, and as a tree of decisions."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError
from esscher.kit.runs.text import format_value
from esscher.pandora.occupancy import best_of, grid_points, switching, visits
from esscher.pandora.policy import TwoPhasePolicy

__all__ = ["Decision", "decision_tree", "explain"]

Array = NDArray[np.float64]
Kind = Literal["open", "take", "claim", "more"]
LISTED = 6
"""Boxes named in a sentence; further ones are counted."""


@dataclass(frozen=True)
class Decision:
    """What is done at a point of the search, and what follows.

    Attributes:
        kind: "open" a box, "take" the best seen (or the outside option), "claim" a closed box, or
            "more", where the tree was cut off.
        boxes: the box; of "more" those still closed, by falling reservation value.
        low: one gets here if the best value seen is at least this, -inf for any.
        high: and below this, inf for any.
        share: probability of getting here, in [0, 1].
        cost: of opening the box.
        parts: what follows, by falling values.
    """

    kind: Kind
    boxes: tuple[str, ...]
    low: float
    high: float
    share: float
    cost: float = 0.0
    parts: tuple[Decision, ...] = ()

    @property
    def size(self) -> int:
        """Nodes of this tree."""
        return 1 + sum(part.size for part in self.parts)

    def action(self, unit: str = "") -> str:
        """What is done, in a few words."""
        if self.kind == "open":
            price = "free" if self.cost == 0 else f"for {_number(self.cost, unit)}"
            return f"Open {self.boxes[0]} {price}"
        if self.kind == "claim":
            return f"Take {self.boxes[0]} unseen"
        if self.kind == "take":
            return "Stop with the best seen"
        return f"Go on; closed: {_listed(self.boxes)}"

    def condition(self, unit: str = "") -> str:
        """When this comes about, "" where it always does."""
        if self.high == math.inf:
            return (
                "" if self.low == -math.inf else f"best seen is {_number(self.low, unit)} or more"
            )
        if self.low == -math.inf:
            return f"best seen is below {_number(self.high, unit)}"
        return f"best seen is {_number(self.low, unit)} to below {_number(self.high, unit)}"


def explain(policy: TwoPhasePolicy, unit: str = "") -> list[str]:
    """A policy in sentences that need no theory.

    Args:
        policy: what is to be done.
        unit: of values and costs, such as "k€".

    Returns:
        The sentences, in the order in which the search goes.
    """
    found = visits(policy)
    said = []
    for t, name in enumerate(policy.order):
        said.append(_opening(policy, name, found.reached[t], unit, first=t == 0))
        ends = policy.backup is None and t == len(policy.order) - 1
        if found.reached[t] > found.reached[t + 1] and not ends:
            stop = policy.thresholds[t]
            what = _search(policy, policy.search_order(policy.order[: t + 1]), stop, unit)
            said.append(f"If the best value seen is then {_number(stop, unit)} or more, {what}.")
    said.append(_ending(policy, found.claimed, unit))
    said.append(
        f"On average this earns {_number(policy.value, unit)}, after {_number(found.spent, unit)} "
        "paid for opening boxes."
    )
    return said


def _opening(policy: TwoPhasePolicy, name: str, share: float, unit: str, *, first: bool) -> str:
    cost = policy.instance.box(name).cost
    price = "costs nothing" if cost == 0 else f"costs {_number(cost, unit)}"
    if first:
        return f"Open {name} first, which {price}."
    return f"Otherwise open {name}, which {price}; it comes to this in {_percent(share)} of cases."


def _ending(policy: TwoPhasePolicy, claimed: float, unit: str) -> str:
    if policy.backup is None:
        rest = policy.search_order(policy.order)
        text = _search(policy, rest, policy.instance.outside, unit)
        return f"Then {text}." if policy.order else f"{text[0].upper()}{text[1:]}."
    worth = _number(policy.instance.box(policy.backup).mean, unit)
    if not policy.order:
        return f"Take {policy.backup} unseen and open nothing: it is worth {worth} on average."
    return (
        f"If nothing seen was good enough, which happens in {_percent(claimed)} of cases, take "
        f"{policy.backup} unseen: it is worth {worth} on average."
    )


def _search(policy: TwoPhasePolicy, rest: tuple[str, ...], best: float, unit: str) -> str:
    """Phase 2 with at least `best` in hand, as the rest of a sentence."""
    sigma = {name: policy.instance.box(name).sigma for name in rest}
    useful = [name for name in rest if sigma[name] > best]
    if not useful:
        return "stop and take it" if policy.order else "open nothing"
    if len(useful) == 1:
        limit = _number(sigma[useful[0]], unit)
        return f"open {useful[0]} while the best is below {limit}, and take the best value seen"
    limits = [f"{name} (limit {_number(sigma[name], unit)})" for name in useful]
    return (
        f"open {_listed(limits)}, in this order and each only while the best value seen is below "
        "its limit; then take the best value seen"
    )


def decision_tree(policy: TwoPhasePolicy, *, depth: int = 6, size: int = 24) -> Decision:
    """The policy as a tree whose branches are ranges of the best value seen.

    Values that lead to the same go into one branch, so that its size does not depend on how many
    values the boxes can have. What is probable is drawn first.

    Args:
        policy: what is to be done.
        depth: most boxes opened on a way before the tree is cut off, at least 1.
        size: most nodes, at least 2.

    Raises:
        ConfigError: if depth or size is too small.
    """
    if depth < 1 or size < 2:
        raise ConfigError(f"a tree needs depth >= 1 and size >= 2, got {depth} and {size}")
    points = grid_points(policy.instance)
    mass = np.zeros(len(points))
    mass[0] = 1.0
    (root,) = _branches(policy, points, _State(mass, 0, None, 0))
    due = [(-root.share, 0, root)]
    # Every open box without branches needs one more node, which says that it goes on.
    total, number = 1 + root.opens, 0
    while due:
        _, _, draft = heapq.heappop(due)
        if not draft.opens or draft.state.depth >= depth:
            continue
        parts = _branches(policy, points, _opened(policy, points, draft))
        grown = total - 1 + sum(1 + part.opens for part in parts)
        if grown > size:
            continue
        total, draft.parts = grown, parts
        for part in parts:
            number += 1
            heapq.heappush(due, (-part.share, number, part))
    return _finished(policy, root)


@dataclass
class _State:
    """Before a decision: the law of the best value, and what the policy is at.

    Attributes:
        mass: [K] at the points; sums to the probability of being here.
        t: boxes of the order that are open.
        rest: after the switch, what is still closed, by falling reservation value; else None.
        depth: boxes opened so far.
    """

    mass: Array
    t: int
    rest: tuple[str, ...] | None
    depth: int


@dataclass
class _Draft:
    kind: Kind
    box: str
    low: float
    high: float
    state: _State
    parts: list[_Draft] = field(default_factory=list)

    @property
    def share(self) -> float:
        return float(self.state.mass.sum())

    @property
    def opens(self) -> bool:
        return self.kind == "open"


def _branches(policy: TwoPhasePolicy, points: Array, state: _State) -> list[_Draft]:
    """What is decided, by falling values; what cannot happen is left out."""
    found, rest, bound = [], state.rest, -math.inf
    if rest is None:
        goes = switching(policy, state.t, points)
        stays = np.where(goes, 0.0, state.mass)
        if state.t:
            bound = policy.thresholds[state.t - 1]
        if state.t < len(policy.order):
            here = _State(stays, state.t + 1, None, state.depth)
            found.append(_Draft("open", policy.order[state.t], -math.inf, bound, here))
        elif policy.backup is not None:
            here = _State(stays, state.t, None, state.depth)
            found.append(_Draft("claim", policy.backup, -math.inf, bound, here))
        state = _State(np.where(goes, state.mass, 0.0), state.t, None, state.depth)
        rest = policy.search_order(policy.order[: state.t])
    if rest:
        sigma = policy.instance.box(rest[0]).sigma
        below = _State(np.where(points < sigma, state.mass, 0.0), state.t, rest[1:], state.depth)
        found.append(_Draft("open", rest[0], bound, sigma, below))
        bound = max(bound, sigma)
        state = _State(np.where(points < sigma, 0.0, state.mass), state.t, (), state.depth)
    found.append(_Draft("take", "", bound, math.inf, state))
    found = [draft for draft in reversed(found) if draft.share > 0]
    # Limits with nothing beyond them need no mention.
    found[0].high, found[-1].low = math.inf, -math.inf
    return found


def _opened(policy: TwoPhasePolicy, points: Array, draft: _Draft) -> _State:
    instance, state = policy.instance, draft.state
    mass = best_of(state.mass, points, instance, instance.index(draft.box))
    return _State(mass, state.t, state.rest, state.depth + 1)


def _finished(policy: TwoPhasePolicy, draft: _Draft) -> Decision:
    parts = tuple(_finished(policy, part) for part in draft.parts)
    if draft.opens and not parts:
        done = {*policy.order[: draft.state.t], draft.box}
        closed = draft.state.rest
        if closed is None:
            closed = tuple(n for n in policy.search_order() if n not in done)
        kind: Kind = "more" if closed else "take"
        parts = (Decision(kind, closed, -math.inf, math.inf, draft.share),)
    cost = policy.instance.box(draft.box).cost if draft.opens else 0.0
    boxes = (draft.box,) if draft.box else ()
    return Decision(draft.kind, boxes, draft.low, draft.high, draft.share, cost, parts)


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _number(value: float, unit: str) -> str:
    return f"{format_value(float(value))}{' ' + unit if unit else ''}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
