"""Rewards, transitions and targets against literal loops, recursion and values by hand."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esscher.branch.returns import (
    Rewards,
    path_length_transitions,
    path_transitions,
    returns_below,
    rewards,
    size_targets,
    subtree_sizes,
    temporal_transitions,
    transitions,
)
from esscher.branch.trajectories import finished, trajectories
from esscher.branch.tree import Fate
from esscher.errors import ConfigError, DataError
from tests.branch.trees import by_hand, grow, large, search_trees

HALF = {"gamma": 0.5, "n_step": 1}


def rows(found):
    """Transitions as tuples; powers of one half are exact."""
    assert all(len(column) == len(found.decision) for column in found)
    return list(zip(*(column.tolist() for column in found), strict=True))


def literal(steps, values, ends, gamma, n):
    """n-step transitions of a chain, each by its own loop; `ends`: its last step is an end."""
    found = []
    for i in range(len(steps) if ends else len(steps) - 1):
        total, j = 0.0, i
        while j < i + n and j < (len(steps) if ends else len(steps) - 1):
            total += gamma ** (j - i) * values[j]
            j += 1
        over = j == len(steps)
        found.append((steps[i], total, -1 if over else steps[j], 0.0 if over else gamma ** (j - i)))
    return found


def same(found, wanted):
    got = rows(found)
    assert [(row[0], row[2]) for row in got] == [(row[0], row[2]) for row in wanted]
    np.testing.assert_allclose(
        [(row[1], row[3]) for row in got], [(row[1], row[3]) for row in wanted], rtol=1e-12
    )


def kids_of(tree):
    kids = {v: [] for v in range(len(tree))}
    for v in range(1, len(tree)):
        kids[int(tree.parent[v])].append(v)
    return kids


def test_a_decision_earns_0_only_where_it_closed_its_subtree():
    value, is_open = rewards(by_hand())
    assert value[:11].tolist() == [-1, -1, -1, -1, -1, -1, 0, -1, -1, 0, 0]
    assert np.isnan(value[11:]).all()
    assert not is_open.any()


def test_above_open_nodes_nothing_is_closed():
    # Node 6 is recorded as closed, and a child of it is open.
    value, is_open = rewards(by_hand(stopped=True))
    assert value[[6, 9, 10]].tolist() == [-1, 0, 0]
    assert np.flatnonzero(is_open).tolist() == [6]
    assert np.flatnonzero(~finished(by_hand(stopped=True))).tolist() == [0, 1, 3, 6, 15]
    assert finished(by_hand()).all()


# Decisions by node: 0: 0, 1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 10, 7: 5, 8: 8, 9: 7, 10: 9.


def test_the_last_transition_is_kept_where_the_path_was_closed():
    assert rows(transitions(by_hand(), [1, 3, 6], **HALF)) == [
        (2, -1.0, 4, 0.5),
        (4, -1.0, 10, 0.5),
        (10, 0.0, -1, 0.0),
    ]


def test_the_last_transition_is_dropped_where_the_path_was_pruned_later():
    assert rows(transitions(by_hand(), [1, 3, 7], **HALF)) == [
        (2, -1.0, 4, 0.5),
        (4, -1.0, 5, 0.5),
    ]


def test_a_single_node_is_kept_closed_or_not():
    assert rows(transitions(by_hand(), [9], **HALF)) == [(7, 0.0, -1, 0.0)]
    assert rows(transitions(by_hand(), [4], **HALF)) == [(3, -1.0, -1, 0.0)]


def test_in_a_stopped_solve_the_last_transition_above_open_nodes_is_dropped():
    tree = by_hand(stopped=True)
    assert rows(transitions(tree, [6], **HALF)) == []
    assert rows(transitions(tree, [1, 3, 6], **HALF)) == [(2, -1.0, 4, 0.5), (4, -1.0, 10, 0.5)]
    # What was finished before stays as it was.
    assert rows(transitions(tree, [9], **HALF)) == [(7, 0.0, -1, 0.0)]
    assert rows(transitions(tree, [4], **HALF)) == [(3, -1.0, -1, 0.0)]
    # The root is not at the edge: that children of it stayed is known.
    assert rows(transitions(tree, [0], **HALF)) == [(0, -1.0, -1, 0.0)]


def test_n_step_sums_inside_the_path_and_stops_at_its_end():
    path = [0, 2, 5, 8, 10]
    assert rows(transitions(by_hand(), path, gamma=0.5, n_step=3)) == [
        (0, -1.75, 8, 0.125),
        (1, -1.75, 9, 0.125),
        (6, -1.5, -1, 0.0),
        (8, -1.0, -1, 0.0),
        (9, 0.0, -1, 0.0),
    ]
    pruned = by_hand(closed=())
    assert rows(transitions(pruned, path, gamma=0.5, n_step=3)) == [
        (0, -1.75, 8, 0.125),
        (1, -1.75, 9, 0.125),
        (6, -1.5, 9, 0.25),
        (8, -1.0, 9, 0.5),
    ]


NUMBERS = (st.sampled_from([0.0, 0.5, 0.99, 1.0]), st.sampled_from([1, 2, 3, 5, 100]))


@settings(max_examples=300)
@given(search_trees(), *NUMBERS)
def test_transitions_of_all_paths_are_those_of_a_literal_loop(tree, gamma, n):
    paths, wanted = trajectories(tree), []
    kids = kids_of(tree)
    for path in paths:
        value = [0.0 if tree.closed[v] else -1.0 for v in path]
        frontier = any(tree.fate[v] == Fate.OPEN for v in kids[path[-1]])
        ends = value[-1] != value[0] if len(path) > 1 else not frontier
        wanted += literal(tree.decision[path].tolist(), value, ends, gamma, n)
    same(path_transitions(tree, paths, gamma=gamma, n_step=n), wanted)
    alone = [row for path in paths for row in rows(transitions(tree, path, gamma=gamma, n_step=n))]
    assert alone == rows(path_transitions(tree, paths, gamma=gamma, n_step=n))


@given(search_trees(), *NUMBERS)
def test_the_solve_as_it_went_is_a_literal_loop(tree, gamma, n):
    steps = list(range(int(tree.decision.max()) + 1))
    value = [-1.0] * (len(steps) - 1) + [0.0]
    found = temporal_transitions(tree, gamma=gamma, n_step=n)
    same(found, literal(steps, value, tree.complete, gamma, n))


def test_the_solve_as_it_went_by_hand():
    three = [(0, (0, 0), (0, 0)), (0, (0, 0), (2, 2)), (0, (0, 0), (2, 0))]
    found = rows(temporal_transitions(grow(three), **HALF))
    assert found == [(0, -1.0, 1, 0.5), (1, -1.0, 2, 0.5), (2, 0.0, -1, 0.0)]
    found = rows(temporal_transitions(grow(three, complete=False), **HALF))
    assert found == [(0, -1.0, 1, 0.5), (1, -1.0, 2, 0.5)]
    assert rows(temporal_transitions(grow([]))) == []


def test_lengths_of_paths_by_hand():
    # By the order of visits: [0, 1, 4], [2, 5, 9], [3, 7], [6], [8, 10].
    found = rows(path_length_transitions(by_hand(), gamma=0.5, n_step=10))
    assert found == [
        (0, -0.75, -1, 0.0), (2, -1.5, -1, 0.0), (3, -3.0, -1, 0.0),
        (1, -0.75, -1, 0.0), (6, -1.5, -1, 0.0), (7, -3.0, -1, 0.0),
        (4, -1.0, -1, 0.0), (5, -2.0, -1, 0.0),
        (10, -1.0, -1, 0.0),
        (8, -1.0, -1, 0.0), (9, -2.0, -1, 0.0),
    ]  # fmt: skip
    one = rows(path_length_transitions(by_hand(), **HALF))
    assert one[:3] == [(0, 0.0, 2, 0.5), (2, 0.0, 3, 0.5), (3, -3.0, -1, 0.0)]
    stopped = rows(path_length_transitions(by_hand(stopped=True), gamma=0.5, n_step=10))
    assert stopped == [row for row in found if row[0] != 10]


@given(search_trees(), *NUMBERS)
def test_lengths_of_paths_are_a_literal_loop(tree, gamma, n):
    kids, wanted = kids_of(tree), []
    for path in trajectories(tree, "visitation_order"):
        if not any(tree.fate[v] == Fate.OPEN for v in kids[path[-1]]):
            value = [0.0] * (len(path) - 1) + [-float(len(path))]
            wanted += literal(tree.decision[path].tolist(), value, True, gamma, n)
    same(path_length_transitions(tree, gamma=gamma, n_step=n), wanted)


@given(search_trees())
def test_sizes_are_those_of_a_recursion(tree):
    kids = kids_of(tree)

    def size(node, count):
        own = 1 if count == "nodes" else int(tree.decision[node] >= 0)
        return own + sum(size(child, count) for child in kids[node])

    def done(node):
        return tree.fate[node] != Fate.OPEN and all(map(done, kids[node]))

    assert finished(tree).tolist() == [done(v) for v in range(len(tree))]
    for count in ("visited", "nodes"):
        assert subtree_sizes(tree, count=count).tolist() == [
            size(v, count) for v in range(len(tree))
        ]
        for unfinished in ("drop", "keep"):
            found = size_targets(tree, count=count, unfinished=unfinished)
            nodes = [v for v in tree.visited.tolist() if unfinished == "keep" or done(v)]
            assert found.decision.tolist() == tree.decision[nodes].tolist()
            assert found.value.tolist() == [-size(v, count) for v in nodes]


def test_sizes_by_hand():
    found = size_targets(by_hand())
    assert found.decision.tolist() == list(range(11))
    assert found.value.tolist() == [-11, -5, -5, -1, -3, -1, -4, -1, -2, -1, -1]
    assert size_targets(by_hand(), count="nodes").value[[0, 10]].tolist() == [-23, -3]
    stopped = size_targets(by_hand(stopped=True))
    assert stopped.decision.tolist() == [1, 3, 5, 6, 7, 8, 9]
    kept = size_targets(by_hand(stopped=True), unfinished="keep")
    assert kept.value.tolist() == found.value.tolist()


@given(search_trees())
def test_returns_below_are_those_of_every_path(tree):
    kids, earned = kids_of(tree), rewards(tree)

    def returns(node):
        below = [r for v in kids[node] if tree.decision[v] >= 0 for r in returns(v)]
        return [earned.value[node] + r for r in below or [0.0]]

    mean, total = returns_below(tree), returns_below(tree, how="sum")
    for node in tree.visited.tolist():
        assert mean.value[node] == pytest.approx(np.mean(returns(node)))
    np.testing.assert_array_equal(mean.open, (tree.decision >= 0) & ~finished(tree))
    assert np.isnan(mean.value[tree.decision < 0]).all()
    leaves = trajectories(tree)
    assert total.value[0] == pytest.approx(mean.value[0] * len(leaves))


def test_bandits_take_the_returns_below_as_their_reward():
    tree = by_hand(stopped=True)
    found = path_transitions(tree, trajectories(tree, "bandit"), earned=returns_below(tree))
    # Nodes 0, 1, 3 and 6 are above an open node.
    assert found.decision.tolist() == [1, 3, 6, 5, 8, 7, 9]
    assert found.reward.tolist() == [-2.5, -1.0, -1.5, -1.0, -1.0, 0.0, 0.0]
    assert (found.next_decision == -1).all()
    assert (found.discount == 0).all()


def test_own_values_are_used_as_given():
    value = np.arange(23.0)
    found = transitions(by_hand(), [1, 3, 7], earned=Rewards(value, np.zeros(23, bool)), **HALF)
    assert found.reward.tolist() == [1, 3, 7]


@given(search_trees(), *NUMBERS)
def test_values_of_finished_chains_are_their_discounted_sums(tree, gamma, n):
    """Going on along next_decision gives the same return for every n."""
    value = {}
    for row in reversed(rows(path_length_transitions(tree, gamma=gamma, n_step=n))):
        decision, reward, following, discount = row
        value[decision] = reward + (discount * value[following] if following >= 0 else 0.0)
    for path in trajectories(tree, "visitation_order"):
        steps = tree.decision[path].tolist()
        if steps[0] in value:
            wanted = [-len(path) * gamma ** (len(path) - 1 - i) for i in range(len(path))]
            assert [value[step] for step in steps] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ([], "one or more"),
        ([[0, 1]], "one or more"),
        ([0, 3], "0 is followed by 3"),
        ([0, 23], "0 .. 22"),
        ([-1], "0 .. 22"),
        ([4, 12], "12 of a path has no decision"),
    ],
)
def test_a_path_that_is_none_is_refused(path, words):
    with pytest.raises(DataError, match=words):
        transitions(by_hand(), path)


@pytest.mark.parametrize(
    "options", [{"gamma": 1.01}, {"gamma": -0.1}, {"gamma": np.nan}, {"n_step": 0}]
)
def test_discounts_and_steps_out_of_range_are_refused(options):
    for call in (
        lambda: transitions(by_hand(), [0], **options),
        lambda: path_transitions(by_hand(), [], **options),
        lambda: temporal_transitions(by_hand(), **options),
        lambda: path_length_transitions(by_hand(), **options),
    ):
        with pytest.raises(ConfigError, match=next(iter(options))):
            call()


def test_unknown_ways_of_counting_are_refused():
    with pytest.raises(ConfigError, match="visited"):
        subtree_sizes(by_hand(), count="leaves")
    with pytest.raises(ConfigError, match="drop"):
        size_targets(by_hand(), unfinished="guess")
    with pytest.raises(ConfigError, match="mean"):
        returns_below(by_hand(), how="max")


def test_a_tree_with_two_roots_is_refused():
    parent = by_hand().parent.copy()
    parent[12] = -1
    with pytest.raises(DataError, match="node 12"):
        subtree_sizes(replace(by_hand(), parent=parent))


def test_no_paths_give_no_transitions():
    found = path_transitions(by_hand(), [])
    assert rows(found) == []
    assert [column.dtype.kind for column in found] == ["i", "f", "i", "f"]
    assert rows(path_length_transitions(grow([]))) == []
    assert size_targets(grow([])).value.tolist() == []


@pytest.mark.parametrize("shape", ["chain", "any"])
@pytest.mark.parametrize("n", [3, 10**9])
def test_a_hundred_thousand_nodes_take_less_than_two_seconds(shape, n):
    tree = large(shape)
    paths = trajectories(tree)
    start = time.process_time()
    found = path_transitions(tree, paths, n_step=n)
    temporal_transitions(tree, n_step=n)
    path_length_transitions(tree, n_step=n)
    size_targets(tree)
    returns_below(tree)
    assert time.process_time() - start < 2
    assert len(found.decision) > 25_000
