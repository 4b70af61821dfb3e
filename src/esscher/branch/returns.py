"""Rewards, transitions and targets that learners take from a search tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esscher.branch.trajectories import check_visited, finished, has_visited_child, trajectories
from esscher.branch.tree import SearchTree
from esscher.errors import ConfigError, DataError

__all__ = [
    "Rewards",
    "Targets",
    "Transitions",
    "path_length_transitions",
    "path_transitions",
    "returns_below",
    "rewards",
    "size_targets",
    "subtree_sizes",
    "temporal_transitions",
    "transitions",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Rewards(NamedTuple):
    """What every decision earned.

    Attributes:
        value: [N] reward of a visited node, NaN of the others.
        open: [N] bool, of visited nodes: it is not known what was still to come. For the rewards
            of the MDP, those without visited children and with an open node at or below.
    """

    value: Floats
    open: NDArray[np.bool_]


class Transitions(NamedTuple):
    """T transitions between decisions: Q(decision) is reward + discount · Q(next_decision).

    Attributes:
        decision: [T] number of the decision.
        reward: [T] discounted sum of the rewards on the way to the next one.
        next_decision: [T] number of the decision to go on from, -1 where the path ended.
        discount: [T] γ to the power of the steps between them, 0 where the path ended.
    """

    decision: Ints
    reward: Floats
    next_decision: Ints
    discount: Floats


class Targets(NamedTuple):
    """T values to regress on, without any successor.

    Attributes:
        decision: [T] number of the decision.
        value: [T] its value, at most 0.
    """

    decision: Ints
    value: Floats


def rewards(tree: SearchTree) -> Rewards:
    """0 for a decision that closed its sub-tree at once, else -1.

    In a solve that was stopped, nodes above open ones get -1 whatever is recorded of them.

    Raises:
        DataError: if a visited node's parent was not visited.
    """
    visited = check_visited(tree)
    value = np.full(len(tree), np.nan)
    done = finished(tree)
    value[visited] = np.where(tree.closed[visited] & done[visited], 0.0, -1.0)
    frontier = (tree.decision >= 0) & ~has_visited_child(tree) & ~done
    return Rewards(value, frontier)


def transitions(
    tree: SearchTree,
    path: ArrayLike,
    *,
    gamma: float = 0.99,
    n_step: int = 3,
    earned: Rewards | None = None,
) -> Transitions:
    """The transitions of one path n_0 … n_k, each to the node `n_step` further down.

    The last one ends the path. It is left out where it says nothing: if k >= 1 and the reward of
    n_k is that of n_0, so that n_k was not closed by its decision but by pruning later; or if n_k
    is open. The nodes before it then go on from n_k at most.

    Args:
        tree: the search tree.
        path: [k + 1] positions of nodes, each the parent of the next.
        gamma: discount γ of one step, in [0, 1].
        n_step: rewards to sum before going on, at least 1; within the path only.
        earned: `rewards(tree)`, or other values of the nodes; taken anew if None.

    Raises:
        ConfigError: if a setting is out of range.
        DataError: if the path is no chain of visited nodes.
    """
    return path_transitions(tree, [path], gamma=gamma, n_step=n_step, earned=earned)


def path_transitions(
    tree: SearchTree,
    paths: Sequence[ArrayLike],
    *,
    gamma: float = 0.99,
    n_step: int = 3,
    earned: Rewards | None = None,
) -> Transitions:
    """Those of many paths, one after the other; see `transitions`. Linear in their length."""
    _check(gamma, n_step)
    found = rewards(tree) if earned is None else earned
    nodes, length = _checked(tree, paths)
    value, last = found.value[nodes], np.cumsum(length) - 1
    kept = ~found.open[nodes[last]] & ((length == 1) | (value[last] != value[last - length + 1]))
    return _chains(tree.decision[nodes], value, length, kept, gamma=gamma, n_step=n_step)


def temporal_transitions(
    tree: SearchTree, *, gamma: float = 0.99, n_step: int = 3
) -> Transitions:  # fmt: skip
    """The solve as it went: every decision is followed by the next one taken, wherever that was.

    The reward is -1 a step, and 0 at the step that ends the solve. A solve that was stopped has no
    such step; its last decision is only gone on from.

    Raises:
        ConfigError: if a setting is out of range.
    """
    _check(gamma, n_step)
    order = tree.visited
    value = np.full(len(order), -1.0)
    value[-1:] = 0.0
    length, kept = np.array([len(order)]), np.array([tree.complete])
    return _chains(tree.decision[order], value, length, kept, gamma=gamma, n_step=n_step)


def path_length_transitions(
    tree: SearchTree, *, gamma: float = 0.99, n_step: int = 3
) -> Transitions:  # fmt: skip
    """Sub-tree sizes as Retro's authors trained for them: the length of a path, at its end.

    Paths lead to the leaf visited first; in a depth-first solve each is what was visited in one
    dive. The reward is 0, and minus the number of the path's nodes at its last one. Paths that end
    above open nodes are left out, because their length is not known.

    Raises:
        ConfigError: if a setting is out of range.
        DataError: if a visited node's parent was not visited.
    """
    _check(gamma, n_step)
    is_open = rewards(tree).open
    paths = [p for p in trajectories(tree, "visitation_order") if not is_open[p[-1]]]
    nodes, length = _checked(tree, paths)
    value = np.zeros(len(nodes))
    value[np.cumsum(length) - 1] = -length
    kept = np.ones(len(paths), np.bool_)
    return _chains(tree.decision[nodes], value, length, kept, gamma=gamma, n_step=n_step)


def subtree_sizes(tree: SearchTree, *, count: Literal["visited", "nodes"] = "visited") -> Ints:
    """[N] nodes at and below each node: those with a decision, or all.

    Raises:
        ConfigError: if `count` is unknown.
    """
    if count not in ("visited", "nodes"):
        raise ConfigError(f"count is 'visited' or 'nodes', got {count!r}")
    own = tree.decision >= 0 if count == "visited" else np.ones(len(tree), np.bool_)
    return _summed(tree, own.astype(np.float64)).astype(np.int64)


def size_targets(
    tree: SearchTree,
    *,
    count: Literal["visited", "nodes"] = "visited",
    unfinished: Literal["drop", "keep"] = "drop",
) -> Targets:
    """Minus the size of the sub-tree below every decision, in their order.

    With "visited" this is the value that FMSTS fits; with "nodes" the return of a tree MDP: minus
    the nodes below a node, and 1 for itself.

    Args:
        tree: the search tree.
        count: which nodes count; see `subtree_sizes`.
        unfinished: what becomes of decisions above open nodes, whose size is still to grow: they
            are dropped, or kept at what they have, which is too small.

    Raises:
        ConfigError: if a setting is unknown.
    """
    if unfinished not in ("drop", "keep"):
        raise ConfigError(f"unfinished is 'drop' or 'keep', got {unfinished!r}")
    sizes, order = subtree_sizes(tree, count=count), tree.visited
    if unfinished == "drop":
        order = order[finished(tree)[order]]
    return Targets(tree.decision[order], -sizes[order].astype(np.float64))


def returns_below(tree: SearchTree, *, how: Literal["mean", "sum"] = "mean") -> Rewards:
    """Values for `transitions` that look at all paths from a node down to a leaf.

    The reward of a node is replaced by the mean, or the sum, over these paths of the rewards on
    them. With "bandit" trajectories this is a target without successors. What is not known yet is
    marked open at every node above an open one, not at leaves only.

    Raises:
        ConfigError: if `how` is unknown.
        DataError: if a visited node's parent was not visited.
    """
    if how not in ("mean", "sum"):
        raise ConfigError(f"how is 'mean' or 'sum', got {how!r}")
    earned = rewards(tree)
    seen = tree.decision >= 0
    leaves = _summed(tree, (seen & ~has_visited_child(tree)).astype(np.float64))
    total = _summed(tree, np.where(seen, earned.value, 0.0) * leaves)
    value = np.full(len(tree), np.nan)
    value[seen] = total[seen] / (leaves[seen] if how == "mean" else 1.0)
    return Rewards(value, seen & ~finished(tree))


def _summed(tree: SearchTree, own: Floats) -> Floats:
    """[N] sums of `own` over every node's sub-tree; parents come before their children."""
    wrong = np.flatnonzero((tree.parent < 0) | (tree.parent >= np.arange(len(tree))))
    if len(wrong) > 1:
        raise DataError(f"node {wrong[1]} has parent {tree.parent[wrong[1]]}; expected one before")
    total, parent = own.tolist(), tree.parent.tolist()
    for node in range(len(total) - 1, 0, -1):
        total[parent[node]] += total[node]
    return np.asarray(total, np.float64)


def _check(gamma: float, n_step: int) -> None:
    if not 0 <= gamma <= 1:
        raise ConfigError(f"gamma is in [0, 1], got {gamma}")
    if n_step < 1:
        raise ConfigError(f"n_step is at least 1, got {n_step}")


def _checked(tree: SearchTree, paths: Sequence[ArrayLike]) -> tuple[Ints, Ints]:
    """All nodes of the paths, one after the other, and the paths' lengths."""
    parts = [np.asarray(path, np.int64) for path in paths]
    if any(part.ndim != 1 or not len(part) for part in parts):
        raise DataError("a path is a row of one or more positions of nodes; one is not")
    length = np.array([len(part) for part in parts], np.int64)
    nodes = np.concatenate([np.empty(0, np.int64), *parts])
    outside = nodes[(nodes < 0) | (nodes >= len(tree))]
    if len(outside):
        raise DataError(f"the tree has nodes 0 .. {len(tree) - 1}; a path has {outside[0]}")
    idle = nodes[tree.decision[nodes] < 0]
    if len(idle):
        raise DataError(f"node {idle[0]} of a path has no decision")
    inside = np.ones(len(nodes), np.bool_)
    inside[np.cumsum(length) - length] = False
    apart = np.flatnonzero(inside & (tree.parent[nodes] != np.roll(nodes, 1)))
    if len(apart):
        raise DataError(f"node {nodes[apart[0] - 1]} is followed by {nodes[apart[0]]}, no child")
    return nodes, length


def _chains(
    decision: Ints,
    value: Floats,
    length: Ints,
    kept: NDArray[np.bool_],
    *,
    gamma: float,
    n_step: int,
) -> Transitions:
    """n-step transitions along chains, whose last nodes end them or are only gone on from."""
    last = np.repeat(np.cumsum(length) - 1, length)
    ends = np.repeat(kept, length)
    place = np.arange(len(decision))
    past = last + ends
    used = place < past
    summed = np.where(used, value, 0.0)
    longest = int(length.max(initial=0))
    if n_step >= longest:
        rows = summed.tolist()
        for i in np.flatnonzero(place + 1 < past)[::-1].tolist():
            rows[i] += gamma * rows[i + 1]
        summed = np.asarray(rows, np.float64)
    else:
        for j in range(1, n_step):
            more = np.flatnonzero(place + j < past)
            summed[more] += gamma**j * value[more + j]
    goal = np.minimum(place + min(n_step, longest), past)
    over = goal > last
    following = np.where(over, -1, decision[np.minimum(goal, last)])
    power = np.where(over, 0.0, gamma ** (goal - place).astype(np.float64))
    return Transitions(decision[used], summed[used], following[used], power[used])
