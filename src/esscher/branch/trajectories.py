"""A finished search tree cut into paths that lead downwards, for learning from."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from esscher.branch.tree import Fate, SearchTree
from esscher.errors import ConfigError, DataError

__all__ = [
    "Select",
    "check_visited",
    "finished",
    "has_visited_child",
    "optimum_end",
    "trajectories",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

Select = Literal[
    "max_leaf_lp_gain", "deepest", "shortest", "random", "visitation_order",
    "reverse_visitation_order", "max_lp_gain", "min_lp_gain", "bandit",
]  # fmt: skip
"""How the end of a path is chosen; see `trajectories`."""

GREEDY = ("max_lp_gain", "min_lp_gain")


def trajectories(
    tree: SearchTree,
    select: Select = "max_leaf_lp_gain",
    *,
    bound: Literal["own", "open"] = "own",
    rng: np.random.Generator | None = None,
    optimum_first: bool = False,
    closed_only: bool = False,
    min_length: int = 1,
) -> list[Ints]:
    """Paths that hold every visited node exactly once, each leading down to a leaf.

    Visited are the nodes with a decision; the others do not count, so that a leaf is a visited node
    without visited children. The first path leads from the root to the leaf that `select` chooses;
    every child that hangs off a path is the head of another, to the leaf chosen among those below
    it. Time is O(N log N).

    | `select` | the leaf | among equals |
    |---|---|---|
    | `max_leaf_lp_gain` | of the greatest bound | the deepest, then the first visited |
    | `deepest`, `shortest` | of the greatest, least depth | the first in the tree's order |
    | `random` | uniformly drawn with `rng` | |
    | `visitation_order` | visited first | |
    | `reverse_visitation_order` | visited last | |
    | `max_lp_gain`, `min_lp_gain` | going always to the child of the greatest, least bound | the \
first visited |
    | `bandit` | every node is a path of its own | |

    Args:
        tree: the search tree.
        select: the rule.
        bound: "own" takes the bounds of the nodes' own LPs, "open" those they were created with.
        rng: for "random".
        optimum_first: the first path leads to where the optimum was found, `optimum_end`, be that a
            leaf or not, whatever its length; without an integral node this changes nothing.
        closed_only: only leaves that their decision closed count, and none above open nodes. Nodes
            without one below are in no path.
        min_length: paths of fewer nodes are left out, and their nodes with them.

    Returns:
        Paths as positions of nodes from top to bottom, ordered by the position of their heads.

    Raises:
        ConfigError: if a setting is unknown or out of range, or two contradict each other.
        DataError: if a visited node's parent was not visited, or a bound that is needed is NaN.
    """
    _check(
        select, bound, rng,
        optimum_first=optimum_first, closed_only=closed_only, min_length=min_length,
    )  # fmt: skip
    visited = check_visited(tree)
    if not len(visited):
        return []
    if select == "bandit":
        return [visited[i : i + 1] for i in range(len(visited))]
    rank = _ranks(tree, visited, select, bound, rng)
    leaf = ~has_visited_child(tree)[visited]
    if closed_only:
        leaf &= (tree.closed & finished(tree))[visited]
    local = np.full(len(tree), -1, np.int64)
    local[visited] = np.arange(len(visited))
    up = np.where(tree.parent[visited] < 0, -1, local[tree.parent[visited]])
    chosen, reached = _descend(up.tolist(), rank.tolist(), leaf.tolist(), select in GREEDY)
    end = optimum_end(tree) if optimum_first else -1
    if end >= 0:
        _force(int(local[end]), up, chosen, reached)
    paths = [visited[path] for path in _follow(up, chosen, reached)]
    first = paths[:1] if end >= 0 else []
    return first + [path for path in paths[len(first) :] if len(path) >= min_length]


def check_visited(tree: SearchTree) -> Ints:
    """[D] positions of the visited nodes, ascending: parents before their children.

    Raises:
        DataError: if one other than the root has no visited parent, or stands before it.
    """
    visited = np.flatnonzero(tree.decision >= 0)
    above = tree.parent[visited]
    wrong = visited[((above < 0) | (above >= visited)) & (visited > 0)]
    if len(wrong):
        raise DataError(f"node {wrong[0]} has parent {tree.parent[wrong[0]]}; expected one before")
    wrong = visited[(tree.decision[above] < 0) & (visited > 0)]
    if len(wrong):
        raise DataError(
            f"node {wrong[0]} has a decision and its parent {tree.parent[wrong[0]]} has none; "
            "a policy has to decide at every node above those it decides at"
        )
    return visited


def finished(tree: SearchTree) -> NDArray[np.bool_]:
    """[N] whether no node at or below is open: what is counted there does not change any more."""
    done = np.ones(len(tree), np.bool_)
    for node in np.flatnonzero(tree.fate == Fate.OPEN).tolist():
        above = node
        while above >= 0 and done[above]:
            done[above] = False
            above = int(tree.parent[above])
    return done


def has_visited_child(tree: SearchTree) -> NDArray[np.bool_]:
    """[N] whether a child of the node has a decision."""
    found = np.zeros(len(tree), np.bool_)
    above = tree.parent[tree.decision >= 0]
    found[above[above >= 0]] = True
    return found


def optimum_end(tree: SearchTree) -> int:
    """The visited node above the integral node of the least bound, -1 if there is none.

    An integral node improves on the incumbent, so that the one of the least bound was found last;
    among equals it is the last in the tree's order. It is the optimum unless a heuristic found a
    better solution. If the root is integral, nothing is above it.

    Raises:
        DataError: if the bound of an integral node is NaN.
    """
    integral = np.flatnonzero(tree.fate == Fate.INTEGRAL)
    if not len(integral):
        return -1
    bounds = tree.bound[integral]
    if bool(np.isnan(bounds).any()):
        raise DataError(f"node {integral[np.isnan(bounds)][0]} is integral and its bound is NaN")
    node = int(integral[bounds == bounds.min()][-1])
    while node >= 0 and tree.decision[node] < 0:
        node = int(tree.parent[node])
    return node


def _check(
    select: str,
    bound: str,
    rng: np.random.Generator | None,
    *,
    optimum_first: bool,
    closed_only: bool,
    min_length: int,
) -> None:
    if select not in get_args(Select):
        raise ConfigError(f"select is one of {', '.join(get_args(Select))}, got {select!r}")
    if bound not in ("own", "open"):
        raise ConfigError(f"bound is 'own' or 'open', got {bound!r}")
    if min_length < 1:
        raise ConfigError(f"min_length is at least 1, got {min_length}")
    if select == "random" and rng is None:
        raise ConfigError("select='random' draws leaves; give it a generator as rng")
    if select == "bandit" and (optimum_first or closed_only or min_length > 1):
        raise ConfigError(
            "select='bandit' makes a path of every node; optimum_first, closed_only and min_length "
            "have no meaning there"
        )


def _ranks(
    tree: SearchTree, visited: Ints, select: str, bound: str, rng: np.random.Generator | None
) -> Ints:
    """[D] different numbers, greater for nodes that are rather chosen."""
    depth, step, place = tree.depth[visited], tree.decision[visited], np.arange(len(visited))
    if select == "random":
        # The order of the leaves below a head is uniform whatever was chosen outside of it.
        assert rng is not None
        return rng.permutation(len(visited)).astype(np.int64)
    keys: tuple[NDArray[np.float64] | Ints, ...]
    if select.endswith("lp_gain"):
        values = (tree.bound if bound == "own" else tree.open_bound)[visited]
        if bool(np.isnan(values).any()):
            raise DataError(f"{select!r} compares bounds; some visited nodes have NaN")
        if select == "max_leaf_lp_gain":
            keys = (-step, depth, values)
        else:
            keys = (-step, values if select == "max_lp_gain" else -values)
    else:
        keys = {
            "deepest": (-place, depth),
            "shortest": (-place, -depth),
            "visitation_order": (-step,),
            "reverse_visitation_order": (step,),
        }[select]
    rank = np.empty(len(visited), np.int64)
    rank[np.lexsort(keys)] = place
    return rank


def _descend(
    up: list[int], rank: list[int], leaf: list[bool], greedy: bool
) -> tuple[list[int], list[bool]]:
    """The child that every node's path goes on to, -1 at its end, and whether it has an end."""
    chosen = [-1] * len(up)
    best = [rank[v] if leaf[v] else -1 for v in range(len(up))]
    for v in range(len(up) - 1, 0, -1):
        if best[v] < 0:
            continue
        offer, above = rank[v] if greedy else best[v], up[v]
        if offer > best[above]:
            best[above], chosen[above] = offer, v
    return chosen, [found >= 0 for found in best]


def _force(end: int, up: Ints, chosen: list[int], reached: list[bool]) -> None:
    """The path from the root goes to `end`, and no further."""
    below, node = -1, end
    while node >= 0:
        chosen[node], reached[node] = below, True
        below, node = node, int(up[node])


def _follow(up: Ints, chosen: list[int], reached: list[bool]) -> list[Ints]:
    """The paths of all heads: nodes with an end that are not their parent's choice."""
    goes_on = np.asarray(chosen)
    head = np.asarray(reached) & (goes_on[up] != np.arange(len(up)))
    head[0] = reached[0]
    paths = []
    for node in np.flatnonzero(head).tolist():
        path, below = [], node
        while below >= 0:
            path.append(below)
            below = chosen[below]
        paths.append(np.asarray(path, np.int64))
    return paths
