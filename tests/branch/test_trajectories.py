"""Trajectories against the construction taken literally, and against paths written out."""

import time
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esscher.branch.trajectories import (
    Select,
    check_visited,
    has_visited_child,
    optimum_end,
    trajectories,
)
from esscher.branch.tree import Fate
from esscher.errors import ConfigError, DataError
from tests.branch.trees import by_hand, grow, large, search_trees

RULES = get_args(Select)
GREEDY = ("max_lp_gain", "min_lp_gain")
PLAIN = [rule for rule in RULES if rule not in ("random", "bandit")]


def family(tree):
    """The visited children of every visited node."""
    kids = {v: [] for v in range(len(tree)) if tree.decision[v] >= 0}
    for v in kids:
        if v:
            kids[int(tree.parent[v])].append(v)
    return kids


def leaves_of(kids, node):
    return sorted(leaf for v in kids[node] for leaf in leaves_of(kids, v)) or [node]


def path_to(tree, head, end):
    path = [end]
    while path[0] != head:
        path.insert(0, int(tree.parent[path[0]]))
    return path


def literal(tree, rule, *, bound="own", closed_only=False, min_length=1, first=-1):
    """The construction as it is stated, with a frontier, and a search of every sub-tree."""
    lb = (tree.bound if bound == "own" else tree.open_bound).tolist()
    step, depth, kids = tree.decision.tolist(), tree.depth.tolist(), family(tree)
    greatest = {
        "max_leaf_lp_gain": lambda v: (lb[v], depth[v], -step[v]),
        "deepest": lambda v: (depth[v], -v),
        "shortest": lambda v: (-depth[v], -v),
        "visitation_order": lambda v: -step[v],
        "reverse_visitation_order": lambda v: step[v],
        "max_lp_gain": lambda v: (lb[v], -step[v]),
        "min_lp_gain": lambda v: (-lb[v], -step[v]),
    }[rule]  # fmt: skip
    frontier, paths, covered = {0}, [], set()
    while frontier:
        head = frontier.pop()
        ends = [v for v in leaves_of(kids, head) if tree.closed[v] or not closed_only]
        if head == 0 and first >= 0:
            path = path_to(tree, 0, first)
        elif not ends:
            continue
        elif rule in GREEDY:
            path = [head]
            while path[-1] not in ends:
                open_to = [
                    v for v in kids[path[-1]]
                    if set(leaves_of(kids, v)) & set(ends)
                ]  # fmt: skip
                path.append(max(open_to, key=greatest))
        else:
            path = path_to(tree, head, max(ends, key=greatest))
        if len(path) >= min_length or (head == 0 and first >= 0):
            paths.append(path)
        covered |= set(path)
        frontier |= {v for u in path for v in kids[u] if v not in covered}
    return sorted(paths)


def as_lists(paths):
    return [path.tolist() for path in paths]


BY_HAND = {
    "max_leaf_lp_gain": [[0, 2, 5, 8, 10], [1, 3, 7], [4], [6], [9]],
    "deepest": [[0, 2, 5, 8, 10], [1, 3, 6], [4], [7], [9]],
    "shortest": [[0, 1, 4], [2, 5, 9], [3, 6], [7], [8, 10]],
    "visitation_order": [[0, 1, 4], [2, 5, 9], [3, 7], [6], [8, 10]],
    "reverse_visitation_order": [[0, 1, 3, 6], [2, 5, 8, 10], [4], [7], [9]],
    "max_lp_gain": [[0, 2, 5, 9], [1, 3, 7], [4], [6], [8, 10]],
    "min_lp_gain": [[0, 1, 4], [2, 5, 8, 10], [3, 6], [7], [9]],
    "bandit": [[v] for v in range(11)],
}


@pytest.mark.parametrize("rule", BY_HAND)
def test_eleven_nodes_by_hand(rule):
    assert as_lists(trajectories(by_hand(), rule)) == BY_HAND[rule]


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"bound": "open"}, [[0, 1, 3, 7], [2, 5, 8, 10], [4], [6], [9]]),
        ({"closed_only": True}, [[0, 2, 5, 8, 10], [1, 3, 6], [9]]),
        ({"min_length": 2}, [[0, 2, 5, 8, 10], [1, 3, 7]]),
        ({"min_length": 4}, [[0, 2, 5, 8, 10]]),
        ({"select": "shortest", "optimum_first": True},
         [[0, 2, 5, 8, 10], [1, 4], [3, 6], [7], [9]]),
    ],
)  # fmt: skip
def test_switches_by_hand(options, paths):
    assert as_lists(trajectories(by_hand(), **options)) == paths


def test_a_leaf_above_an_open_node_is_not_closed():
    # Node 6 is recorded as closed, and a child of it is open.
    found = trajectories(by_hand(stopped=True), closed_only=True)
    assert as_lists(found) == [[0, 2, 5, 8, 10], [9]]


@settings(max_examples=1000)
@given(search_trees())
def test_rules_are_the_construction_taken_literally(tree):
    everyone, kids = check_visited(tree).tolist(), family(tree)
    for rule in PLAIN:
        found = as_lists(trajectories(tree, rule))
        assert found == literal(tree, rule)
        assert sorted(v for path in found for v in path) == everyone
        assert found[0][0] == 0
        for path in found:
            assert (tree.parent[path[1:]] == path[:-1]).all()
            assert not kids[path[-1]]


SWITCHES = st.fixed_dictionaries({
    "bound": st.sampled_from(["own", "open"]), "closed_only": st.booleans(),
    "min_length": st.integers(1, 4),
})  # fmt: skip


@settings(max_examples=300)
@given(search_trees(), st.sampled_from(PLAIN), SWITCHES, st.booleans())
def test_switches_are_the_construction_taken_literally(tree, rule, switches, optimum):
    first = optimum_end(tree) if optimum else -1
    found = trajectories(tree, rule, optimum_first=optimum, **switches)
    assert as_lists(found) == literal(tree, rule, first=first, **switches)


@settings(max_examples=100)
@given(search_trees(), st.integers(0, 99))
def test_random_paths_are_a_partition_that_a_seed_repeats(tree, seed):
    found = [as_lists(trajectories(tree, "random", rng=np.random.default_rng(seed))) for _ in "ab"]
    assert found[0] == found[1]
    assert sorted(v for path in found[0] for v in path) == check_visited(tree).tolist()
    kids = family(tree)
    assert all(not kids[path[-1]] for path in found[0])


def test_random_leaves_are_uniform_and_independent():
    tree, rng = by_hand(), np.random.default_rng(0)
    ends, pairs = {}, {}
    for _ in range(6000):
        paths = as_lists(trajectories(tree, "random", rng=rng))
        end = paths[0][-1]
        ends[end] = ends.get(end, 0) + 1
        if end in (9, 10):
            other = next(path[-1] for path in paths if path[0] == 1)
            pairs[end, other] = pairs.get((end, other), 0) + 1
    assert set(ends) == {4, 6, 7, 9, 10}
    # 6 standard errors of a share of 1/5 of 6000, and of 1/15.
    assert all(abs(n - 1200) < 6 * 31 for n in ends.values())
    assert set(pairs) == {(a, b) for a in (9, 10) for b in (4, 6, 7)}
    assert all(abs(n - 400) < 6 * 20 for n in pairs.values())


def test_equal_bounds_go_to_the_deepest_leaf_and_then_the_first_visited():
    flat = [(0, (0, 0), (0, 0))] * 4
    tree = grow(flat)
    # Breadth first: the root, 1, 2, then 3 below 1; the leaves are 2 and 3, all bounds are equal.
    assert as_lists(trajectories(tree)) == [[0, 1, 3], [2]]
    later = grow([(0, (0, 0), (0, 0)), (1, (0, 0), (0, 4)), (0, (0, 0), (0, 4))])
    assert later.decision[[1, 2]].tolist() == [2, 1]
    assert as_lists(trajectories(later)) == [[0, 2], [1]]
    assert as_lists(trajectories(later, "deepest")) == [[0, 1], [2]]


@given(search_trees())
def test_the_optimum_is_below_the_end_of_the_first_path(tree):
    integral = np.flatnonzero(tree.fate == Fate.INTEGRAL)
    end = optimum_end(tree)
    assert (end >= 0) == bool(len(integral))
    if end >= 0:
        best = integral[tree.bound[integral] == tree.bound[integral].min()]
        assert end == tree.parent[best[-1]]
        assert trajectories(tree, optimum_first=True)[0].tolist() == path_to(tree, 0, end)


def test_the_first_path_may_end_where_the_tree_goes_on():
    tree = by_hand()
    fate, bound = tree.fate.copy(), tree.bound.copy()
    fate[11], bound[11] = Fate.INTEGRAL, 12.5
    tree = replace(tree, fate=fate, bound=bound)
    assert optimum_end(tree) == 2
    found = as_lists(trajectories(tree, optimum_first=True, min_length=3))
    assert found == [[0, 2], [1, 3, 7], [5, 8, 10]]


def test_nothing_visited_gives_no_path():
    assert trajectories(grow([]), "random", rng=np.random.default_rng(0)) == []
    assert trajectories(grow([]), optimum_first=True) == []
    assert optimum_end(grow([])) == -1


def test_nodes_without_a_decision_do_not_count():
    tree = by_hand()
    assert np.flatnonzero(has_visited_child(tree)).tolist() == [0, 1, 2, 3, 5, 8]
    decision = tree.decision.copy()
    decision[10] = -1
    assert as_lists(trajectories(replace(tree, decision=decision)))[2:4] == [[4], [6]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"select": "best"}, "max_leaf_lp_gain"),
        ({"bound": "upper"}, "'own' or 'open'"),
        ({"min_length": 0}, "at least 1"),
        ({"select": "random"}, "generator"),
        ({"select": "bandit", "closed_only": True}, "no meaning"),
        ({"select": "bandit", "min_length": 2}, "no meaning"),
        ({"select": "bandit", "optimum_first": True}, "no meaning"),
    ],
)
def test_bad_settings_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        trajectories(by_hand(), **options)


def test_an_idle_node_above_a_decision_is_refused():
    for idle, below in ((0, 1), (3, 6)):
        decision = by_hand().decision.copy()
        decision[idle] = -1
        with pytest.raises(DataError, match=f"node {below} has a decision and its parent {idle}"):
            trajectories(replace(by_hand(), decision=decision))


def test_a_second_root_and_a_parent_that_comes_later_are_refused():
    for above in (-1, 9, 8):
        parent = by_hand().parent.copy()
        parent[8] = above
        with pytest.raises(DataError, match="expected one before"):
            trajectories(replace(by_hand(), parent=parent))


def test_bounds_that_are_no_numbers_are_refused_where_they_count():
    bound = by_hand().bound.copy()
    bound[3] = np.nan
    tree = replace(by_hand(), bound=bound)
    with pytest.raises(DataError, match="NaN"):
        trajectories(tree)
    assert as_lists(trajectories(tree, "deepest")) == BY_HAND["deepest"]
    bound[12] = np.nan
    with pytest.raises(DataError, match="node 12 is integral"):
        optimum_end(replace(tree, bound=bound))


@pytest.mark.parametrize("shape", ["chain", "first", "last", "any"])
@pytest.mark.parametrize("rule", ["max_leaf_lp_gain", "max_lp_gain", "random", "shortest"])
def test_a_hundred_thousand_nodes_take_less_than_two_seconds(shape, rule):
    rng = np.random.default_rng(0)
    tree = large(shape)
    start = time.process_time()
    paths = trajectories(tree, rule, rng=rng)
    assert time.process_time() - start < 2
    assert len(tree) > 100_000
    assert sum(map(len, paths)) == 50_000
