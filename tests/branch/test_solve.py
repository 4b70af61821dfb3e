"""Solving with policies: the optimum whatever they choose, and every fault as itself."""

import itertools
import os
import signal
import threading
import time

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from esscher.branch.callback import Limits
from esscher.branch.milp import Milp
from esscher.branch.policies import MostInfeasible, Pseudocost, RandomChoice, ScipRule
from esscher.branch.recorder import Recorder
from esscher.branch.settings import SELECTORS, SETTINGS, configure
from esscher.branch.solve import attach, solve
from esscher.branch.strong import StrongBranching
from esscher.branch.tree import Fate
from esscher.errors import ConfigError, DataError, ShapeError
from tests.branch.problems import covering, knapsacks, model_of

POLICIES = {
    "random": lambda: RandomChoice(3),
    "infeasible": MostInfeasible,
    "pseudocost": Pseudocost,
    "strong": StrongBranching,
    "pscost": lambda: ScipRule("pscost"),
}


def enumerated(problem):
    """The optimum over all whole points, the continuous rest by linear programming."""
    whole = np.flatnonzero(problem.integer)
    rest = np.flatnonzero(~problem.integer)
    ranges = [range(int(problem.low[j]), int(problem.high[j]) + 1) for j in whole]
    sign = -1.0 if problem.maximise else 1.0
    matrix = problem.matrix.toarray()
    best = np.inf
    for point in itertools.product(*ranges):
        known = matrix[:, whole] @ np.array(point, dtype=float)
        base = sign * float(problem.objective[whole] @ np.array(point, dtype=float))
        low, high = problem.row_low - known, problem.row_high - known
        if len(rest) == 0:
            if (low <= 1e-9).all() and (high >= -1e-9).all():
                best = min(best, base)
            continue
        left = matrix[:, rest]
        found = linprog(
            sign * problem.objective[rest],
            A_ub=np.vstack([left, -left]),
            b_ub=np.concatenate([_finite(high), _finite(-low)]),
            bounds=list(zip(problem.low[rest], problem.high[rest], strict=True)),
        )  # fmt: skip
        if found.status == 0:
            best = min(best, base + found.fun)
    return sign * best


def _finite(bound):
    return np.where(np.isfinite(bound), bound, 1e9)


def by_highs(problem):
    """The optimum by another solver."""
    sign = -1.0 if problem.maximise else 1.0
    found = milp(
        sign * problem.objective,
        constraints=LinearConstraint(problem.matrix, problem.row_low, problem.row_high),
        bounds=Bounds(problem.low, problem.high),
        integrality=problem.integer.astype(int),
    )
    return sign * found.fun


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_finds_the_enumerated_optimum(name):
    for seed in range(8):
        for problem in (covering(9, 10, 0.2, seed), knapsacks(2, 6, seed)):
            result = solve(model_of(problem), POLICIES[name]())
            assert result.status == "optimal"
            assert result.objective == pytest.approx(enumerated(problem), abs=1e-6)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("settings", SETTINGS)
def test_every_policy_and_setting_agrees_with_another_solver(name, settings):
    for seed in range(2):
        for problem in (covering(50, 70, 0.08, seed), knapsacks(4, 15, seed)):
            model = model_of(problem, settings)
            result = solve(model, POLICIES[name]())
            assert result.status == "optimal"
            # The other solver takes values within 1e-6 of a whole number for it.
            assert result.objective == pytest.approx(by_highs(problem), abs=1e-4)


@pytest.mark.parametrize("selector", SELECTORS)
def test_the_node_selector_changes_the_order_and_not_the_optimum(selector):
    problem = covering(165, 230, 0.05, 6)
    recorder = Recorder()
    result = solve(model_of(problem, selector=selector), Pseudocost(), recorder=recorder)
    assert result.objective == pytest.approx(by_highs(problem))
    order = result.tree.depth[result.tree.visited]
    if selector == "dfs":
        # Depth first: the next node is a child, or a child left behind on the way up.
        assert (np.diff(order) <= 1).all()


def test_selectors_differ():
    problem = covering(165, 230, 0.05, 6)
    orders = set()
    for selector in SELECTORS:
        result = solve(model_of(problem, selector=selector), Pseudocost(), recorder=Recorder())
        orders.add(tuple(result.tree.number[result.tree.visited].tolist()))
    assert len(orders) >= 3


def test_the_same_seed_gives_the_same_tree():
    problem = covering(200, 200, 0.05, 6)
    runs = [
        solve(model_of(problem, seed=seed), RandomChoice(0), recorder=Recorder())
        for seed in (5, 5, 6)
    ]
    sizes = [(r.nodes, r.lp_iterations, r.tree.variable.tolist()) for r in runs]
    assert sizes[0] == sizes[1]
    assert sizes[0] != sizes[2]


def test_strong_branching_makes_smaller_trees_than_pseudocosts_and_those_than_chance():
    nodes = {name: [] for name in ("strong", "pseudocost", "random")}
    for seed in range(12):
        for name, found in nodes.items():
            found.append(solve(model_of(covering(165, 230, 0.05, seed)), POLICIES[name]()).nodes)
    mean = {name: np.mean(found) for name, found in nodes.items()}
    assert mean["strong"] < 0.8 * mean["pseudocost"]
    assert mean["pseudocost"] < mean["random"]


class First:
    """Takes the first candidate, and what a test wants to see."""

    def __init__(self, act=lambda focus: 0):
        self.act, self.seen = act, []

    def begin(self, model):
        self.seen.append("begin")

    def choose(self, focus):
        self.seen.append(focus.step)
        return self.act(focus)


def test_a_policy_is_shown_the_fractional_variables_and_told_when_a_solve_begins():
    def look(focus):
        assert (focus.fractions > 1e-9).all()
        assert (focus.fractions < 1).all()
        assert np.allclose(focus.values - np.floor(focus.values), focus.fractions)
        assert len(focus.variables) == len(focus.values)
        assert (focus.depth == 0) == (focus.node == 1)
        return 0

    policy = First(look)
    result = solve(model_of(covering(200, 200, 0.05, 6)), policy)
    assert policy.seen == ["begin", *range(result.decisions)]
    assert result.policy_seconds < result.seconds + 1


@pytest.mark.parametrize("answer", [-1, 10**6, 0.0, None, "x", True])
def test_an_answer_that_is_no_candidate_is_refused_by_name(answer):
    with pytest.raises(ConfigError, match=r"candidates|position"):
        solve(model_of(covering(60, 90, 0.07, 9)), First(lambda focus: answer))


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_policy_raises_comes_out_of_the_solve(error):
    def fail(focus):
        if focus.step == 2:
            raise error
        return 0

    with pytest.raises(type(error)) as caught:
        solve(model_of(covering(165, 230, 0.05, 6)), First(fail))
    assert caught.value is error


def test_what_a_policy_raises_in_someone_elses_solve_is_kept():
    model = model_of(covering(165, 230, 0.05, 6))
    brancher = attach(model, First(lambda focus: 1 / 0))
    model.optimize()
    assert model.getStatus() == "userinterrupt"
    with pytest.raises(ZeroDivisionError):
        brancher.raise_error()


def test_an_infeasible_and_an_unbounded_problem_have_a_status_and_no_objective():
    one = sparse.csr_array(np.ones((1, 2)))
    inf = np.full(1, np.inf)
    whole = np.ones(2, dtype=bool)
    base = (np.ones(2), one, np.array([5.0]), inf, np.zeros(2), np.ones(2), whole)
    result = solve(model_of(Milp(*base)), RandomChoice(0), recorder=Recorder())
    assert (result.status, result.objective) == ("infeasible", None)
    assert result.tree.complete
    free = (-np.ones(2), one, np.zeros(1), inf, np.zeros(2), np.full(2, np.inf), whole)
    result = solve(model_of(Milp(*free)), RandomChoice(0))
    assert result.status in ("unbounded", "inforunbd")


def test_nothing_to_branch_on():
    problem = covering(20, 30, 0.2, 0)
    linear = Milp(*(getattr(problem, name) for name in problem.__dataclass_fields__ if name not in (
        "integer", "maximise", "name")), integer=np.zeros(30, dtype=bool))  # fmt: skip
    result = solve(model_of(linear), RandomChoice(0), recorder=Recorder())
    assert (result.status, result.decisions) == ("optimal", 0)
    assert len(result.tree.visited) == 0
    presolved = solve(
        model_of(covering(12, 15, 0.2, 0), "scip"), RandomChoice(0), recorder=Recorder()
    )
    assert presolved.status == "optimal"
    assert presolved.decisions == 0


def test_a_zero_objective():
    problem = covering(30, 40, 0.1, 0)
    nothing = Milp(np.zeros(40), problem.matrix, problem.row_low, problem.row_high, problem.low,
                   problem.high, problem.integer)  # fmt: skip
    assert solve(model_of(nothing), StrongBranching()).objective == 0


def test_no_time_is_a_status():
    result = solve(model_of(covering(165, 230, 0.05, 6), time_limit=0.0), RandomChoice(0),
                   recorder=Recorder())  # fmt: skip
    assert (result.status, result.decisions) == ("timelimit", 0)
    assert not result.tree.complete


def test_a_node_limit_leaves_an_open_tree():
    result = solve(model_of(covering(165, 230, 0.05, 6), node_limit=10), RandomChoice(0),
                   recorder=Recorder())  # fmt: skip
    assert result.status == "totalnodelimit"
    assert not result.tree.complete
    assert (result.tree.fate == Fate.OPEN).any()


def test_decisions_end_a_training_solve_or_hand_over():
    problem = covering(165, 230, 0.05, 6)
    stopped = solve(model_of(problem), RandomChoice(0), limits=Limits(max_decisions=7, stop=True),
                    recorder=Recorder())  # fmt: skip
    assert (stopped.status, stopped.decisions) == ("userinterrupt", 7)
    assert not stopped.tree.complete
    handed = solve(model_of(problem), RandomChoice(0), limits=Limits(max_decisions=7),
                   recorder=Recorder())  # fmt: skip
    assert (handed.status, handed.decisions) == ("optimal", 7)
    assert handed.objective == pytest.approx(by_highs(problem))


def test_a_depth_limit_asks_the_policy_near_the_root_only():
    seen = []
    problem = covering(165, 230, 0.05, 6)

    def look(focus):
        seen.append(focus.depth)
        return 0

    result = solve(model_of(problem), First(look), limits=Limits(max_depth=2), fallback="pscost")
    assert max(seen) == 2
    assert result.objective == pytest.approx(by_highs(problem))
    seen.clear()
    free = solve(model_of(problem), First(look), limits=Limits(max_seconds=0.0), fallback="pscost")
    assert not seen
    assert free.nodes == solve(model_of(problem), ScipRule("pscost")).nodes


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"settings": "bear"}, "bare"),
        ({"selector": "dsf"}, "dfs"),
        ({"time_limit": -1.0}, "time_limit"),
        ({"time_limit": float("nan")}, "time_limit"),
        ({"node_limit": 0}, "node_limit"),
    ],
)
def test_settings_that_do_not_exist_name_the_nearest(change, named):
    with pytest.raises(ConfigError, match=named):
        configure(covering(5, 6, 0.5, 0).to_scip(), **change)


def test_unknown_rules_and_used_models_are_refused():
    with pytest.raises(ConfigError, match="relpscost"):
        solve(model_of(covering(5, 6, 0.5, 0)), ScipRule("relpscst"))
    model = model_of(covering(5, 6, 0.5, 0))
    solve(model, RandomChoice(0))
    with pytest.raises(ConfigError, match="solved before"):
        solve(model, RandomChoice(0))
    with pytest.raises(ConfigError, match="max_depth"):
        Limits(max_depth=-1)


def test_numbers_that_are_none_are_refused():
    good = covering(5, 6, 0.5, 0)
    fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
    bad = good.objective.copy()
    bad[2] = np.nan
    with pytest.raises(DataError, match="objective"):
        Milp(**{**fields, "objective": bad})
    with pytest.raises(ShapeError, match="row_low"):
        Milp(**{**fields, "row_low": np.ones(3)})
    matrix = good.matrix.copy()
    matrix.data[0] = np.inf
    with pytest.raises(DataError, match="matrix"):
        Milp(**{**fields, "matrix": matrix})


def test_ctrl_c_ends_a_solve_as_an_interrupt():
    def press():
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    def slow(focus):
        time.sleep(0.02)
        return 0

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        solve(model_of(covering(500, 700, 0.03, 1)), First(slow))
    thread.join()


def test_strong_scores_choose_what_scip_chooses_at_the_root():
    agreed = []
    for seed in range(100):
        problem = covering(60, 90, 0.07, seed)
        own = solve(model_of(problem), StrongBranching(), recorder=Recorder())
        if own.decisions == 0:
            continue
        model = model_of(problem)
        model.setParam("branching/vanillafullstrong/idempotent", True)
        theirs = solve(model, ScipRule("vanillafullstrong"), recorder=Recorder())
        picks = [
            t.names[t.variable[np.flatnonzero(t.parent == 0)[0]]] for t in (own.tree, theirs.tree)
        ]
        agreed.append(picks[0] == picks[1])
    assert len(agreed) >= 50
    assert np.mean(agreed) >= 0.95
