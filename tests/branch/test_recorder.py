"""The record against what is true of every tree, and against linear programs solved anew."""

import numpy as np
import pytest
from scipy.optimize import linprog

from esscher.branch.policies import Pseudocost, RandomChoice, ScipRule
from esscher.branch.recorder import Recorder
from esscher.branch.solve import solve
from esscher.branch.tree import Fate
from tests.branch.problems import covering, exact_knapsack, knapsacks, model_of

PROBLEMS = [covering(120, 150, 0.05, seed) for seed in range(50)] + [
    knapsacks(3, 14, seed, maximise=seed % 2 == 0) for seed in range(50)
]


def recorded(problem, policy, settings="bare"):
    return solve(model_of(problem, settings), policy, recorder=Recorder())


def test_a_record_is_a_binary_tree_with_growing_bounds():
    branched = 0
    for number, problem in enumerate(PROBLEMS):
        result = recorded(problem, RandomChoice(number))
        tree = result.tree
        assert tree.complete
        assert (tree.decision >= 0).sum() == result.decisions
        assert ((tree.fate == Fate.BRANCHED) == (tree.decision >= 0)).all()
        assert tree.parent[0] == -1
        assert (tree.parent[1:] < np.arange(1, len(tree))).all()
        assert (tree.parent[1:] >= 0).all()
        children = np.bincount(tree.parent[1:], minlength=len(tree))
        assert set(children[tree.fate == Fate.BRANCHED].tolist()) <= {2}
        assert not children[tree.fate != Fate.BRANCHED].any()
        assert len(tree) == 2 * result.decisions + 1
        assert result.nodes <= len(tree)
        assert (tree.depth[1:] == tree.depth[tree.parent[1:]] + 1).all()
        assert (tree.bound[1:] >= tree.bound[tree.parent[1:]] - 1e-6).all()
        assert (tree.open_bound[1:] <= tree.bound[1:] + 1e-6).all()
        assert (tree.fate != Fate.OPEN).all()
        branched += result.decisions
    assert branched > 500


def test_bounds_are_those_of_the_linear_programs():
    checked = 0
    for number, problem in enumerate(PROBLEMS[::4]):
        tree = recorded(problem, RandomChoice(number)).tree
        for node in tree.visited[:5]:
            assert tree.bound[node] == pytest.approx(relaxed(problem, tree, node), abs=1e-6)
            checked += 1
    assert checked >= 50


def test_infeasible_nodes_are_infeasible_and_cut_nodes_are_not_better():
    seen = {Fate.INFEASIBLE: 0, Fate.CUTOFF: 0, Fate.INTEGRAL: 0}
    exact = [exact_knapsack(10, seed) for seed in range(20)]
    for number, problem in enumerate(PROBLEMS[::2] + exact):
        result = recorded(problem, RandomChoice(number))
        tree = result.tree
        best = -result.objective if problem.maximise else result.objective
        for node in np.flatnonzero(tree.fate != Fate.BRANCHED)[:4]:
            value = relaxed(problem, tree, node)
            fate = Fate(tree.fate[node])
            seen[fate] += 1
            if fate == Fate.INFEASIBLE:
                assert value == np.inf
            elif fate == Fate.CUTOFF:
                # With whole costs SCIP drops what is not better by 1.
                whole = problem.integer.all()
                assert (np.ceil(value - 1e-6) if whole else value) >= best - 1e-6
            else:
                assert value == pytest.approx(tree.bound[node], abs=1e-6)
    assert min(seen.values()) >= 5


def relaxed(problem, tree, node):
    """Bound of a node's relaxation as a minimisation, from the recorded changes of bounds."""
    low, high = problem.low.copy(), problem.high.copy()
    while tree.parent[node] >= 0:
        column = int(tree.names[tree.variable[node]].removeprefix("x"))
        if tree.direction[node] < 0:
            high[column] = min(high[column], tree.branch_value[node])
        else:
            low[column] = max(low[column], tree.branch_value[node])
        node = tree.parent[node]
    sign = -1.0 if problem.maximise else 1.0
    dense = problem.matrix.toarray()
    upper, lower = np.isfinite(problem.row_high), np.isfinite(problem.row_low)
    found = linprog(
        sign * problem.objective,
        A_ub=np.vstack([dense[upper], -dense[lower]]),
        b_ub=np.concatenate([problem.row_high[upper], -problem.row_low[lower]]),
        bounds=list(zip(low, high, strict=True)),
    )
    return found.fun if found.status == 0 else np.inf


def test_a_decision_is_closed_where_neither_child_is_left_at_the_next():
    """Against the nodes SCIP itself still holds when it calls next."""

    class Watcher(RandomChoice):
        def __init__(self, seed):
            super().__init__(seed)
            self.before, self.closed = None, []

        def choose(self, focus):
            model = focus.model
            held = [n for kind in model.getOpenNodes() for n in kind] + [model.getCurrentNode()]
            parents = {n.getParent().getNumber() for n in held if n.getParent() is not None}
            if self.before is not None:
                self.closed.append(self.before not in parents)
            self.before = focus.node
            return super().choose(focus)

    total = 0
    for seed in range(20):
        watcher = Watcher(seed)
        result = solve(model_of(covering(120, 150, 0.05, seed)), watcher, recorder=Recorder())
        tree = result.tree
        if result.decisions == 0:
            continue
        assert tree.closed[tree.visited][:-1].tolist() == watcher.closed
        assert tree.closed[tree.visited][-1]
        total += sum(watcher.closed)
    assert total > 20
    assert not tree.closed[tree.decision < 0].any()


def test_an_interrupted_tree_closes_nothing_that_is_open():
    result = solve(
        model_of(covering(165, 230, 0.05, 6), node_limit=20), RandomChoice(0), recorder=Recorder()
    )
    tree = result.tree
    last = tree.visited[-1]
    children = np.flatnonzero(tree.parent == last)
    assert (tree.fate[children] == Fate.OPEN).any()
    assert not tree.closed[last]


@pytest.mark.parametrize("rule", ["relpscost", "pscost", "vanillafullstrong"])
def test_trees_of_scips_own_rules_are_recorded_too(rule):
    result = recorded(covering(165, 230, 0.05, 6), ScipRule(rule))
    tree = result.tree
    children = np.bincount(tree.parent[1:], minlength=len(tree))
    assert set(children[tree.fate == Fate.BRANCHED].tolist()) == {2}
    assert (tree.variable[1:] >= 0).all()
    assert set(tree.direction[1:].tolist()) == {-1, 1}
    assert (tree.bound[1:] >= tree.bound[tree.parent[1:]] - 1e-6).all()


def test_a_hand_over_is_recorded_as_one_tree():
    from esscher.branch.callback import Limits

    problem = covering(165, 230, 0.05, 6)
    result = solve(
        model_of(problem), Pseudocost(), limits=Limits(max_depth=1), fallback="pscost",
        recorder=Recorder(),
    )  # fmt: skip
    tree = result.tree
    assert (tree.depth[tree.decision >= 0] <= 1).all()
    assert (tree.fate == Fate.BRANCHED).sum() > result.decisions
    children = np.bincount(tree.parent[1:], minlength=len(tree))
    assert set(children[tree.fate == Fate.BRANCHED].tolist()) == {2}


def test_a_record_survives_its_file(tmp_path):
    from esscher.branch.tree import SearchTree

    tree = recorded(covering(200, 200, 0.05, 6), RandomChoice(0)).tree
    tree.save(tmp_path / "tree.json")
    again = SearchTree.load(tmp_path / "tree.json")
    for name in tree.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(tree, name))
