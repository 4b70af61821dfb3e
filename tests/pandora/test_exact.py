"""The table of sets against the Bellman equation on sets and values."""

import numpy as np
import pytest

from esscher.errors import ConfigError
from esscher.pandora import Box, PandoraInstance, solve
from esscher.pandora.bounds import best_committing, surrogate_bound, upper_bound
from esscher.pandora.exact import solve_exact
from esscher.pandora.families import exposed, hardness_stress, tight
from esscher.pandora.lattice import Lattice
from esscher.pandora.screening import candidates, reduce, with_backup
from esscher.pandora.weitzman import Grid
from tests.pandora.problems import KINDS, brute_force, instance, play_out


def agree(kind, seed, runs, most):
    rng = np.random.default_rng(seed)
    for _ in range(runs):
        problem = instance(rng, int(rng.integers(0, most + 1)), kind)
        truth = brute_force(problem)
        found = solve(problem, method="exact")
        assert found.value == pytest.approx(truth, abs=1e-9)
        assert found.upper_bound == found.value
        assert found.certified
        assert found.gap == 0
        assert found.committing <= truth + 1e-9
        assert upper_bound(problem) >= truth - 1e-9
        assert surrogate_bound(problem) >= upper_bound(problem) - 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_the_optimum_and_its_bounds(kind):
    agree(kind, 1, 50, 5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_optimum_and_its_bounds_in_a_thousand_instances(kind):
    agree(kind, 2, 250, 6)


def whole_lattice(problem, grouped=False):
    """The optimum of regular boxes without screening: every backup with all the others as pool."""
    grid = Grid(problem)
    best = best_committing(grid).value
    for j in range(len(grid.boxes)):
        pool = [i for i in range(len(grid.boxes)) if i != j]
        types = {}
        for i in pool:
            types.setdefault(problem.boxes[i].type_key if grouped else i, []).append(i)
        best = max(
            best, Lattice(grid, [j], list(types.values()), grid.boxes[j].mean).solve().best()
        )
    return best


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_without_screening_has_the_same_optimum(kind):
    rng = np.random.default_rng(3)
    for _ in range(25):
        problem = instance(rng, int(rng.integers(1, 6)), kind)
        assert whole_lattice(problem) == pytest.approx(brute_force(problem), abs=1e-9)


@pytest.mark.parametrize("make", [exposed, hardness_stress])
def test_screening_keeps_the_optimum_of_larger_instances(make):
    for seed in range(2):
        problem = make(9, seed)
        found = solve(problem, method="exact")
        assert found.value == pytest.approx(whole_lattice(problem), abs=1e-12)
        assert found.committing < 0.97 * found.value


def test_high_and_low_parts_of_the_table_agree(monkeypatch):
    problem = exposed(10, 0)
    whole = solve(problem, method="exact").value
    monkeypatch.setattr("esscher.pandora.lattice.HIGH_STATES", 8)
    monkeypatch.setattr("esscher.pandora.lattice.PIECE_BYTES", 8)
    assert solve(problem, method="exact").value == pytest.approx(whole, abs=1e-13)


def test_boxes_alike_are_counted():
    base = exposed(4, 1)
    alike = [b.replace(name=f"{b.name}{k}") for b in base.boxes[1:] for k in range(3)]
    problem = PandoraInstance([base.boxes[0], *alike])
    counted, listed = solve(problem, method="types"), solve(problem, method="exact")
    assert counted.value == pytest.approx(listed.value, abs=1e-12)
    assert listed.work >= 2**6
    assert counted.work < listed.work / 2
    assert whole_lattice(problem, grouped=True) == pytest.approx(listed.value, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_played_out_earns_the_optimum(kind):
    rng = np.random.default_rng(4)
    for _ in range(25):
        problem = instance(rng, int(rng.integers(0, 5)), kind)
        found = solve(problem, method="exact")
        assert play_out(found.policy) == pytest.approx(brute_force(problem), abs=1e-9)


@pytest.mark.parametrize("outside", [-np.inf, -2.0, 1.5])
@pytest.mark.parametrize("inspection", ["nonobligatory", "obligatory"])
def test_other_outside_options_and_obligatory_inspection(outside, inspection):
    rng = np.random.default_rng(5)
    for kind in KINDS:
        for _ in range(15):
            problem = instance(rng, int(rng.integers(1, 5)), kind, outside, inspection)
            found = solve(problem)
            truth = brute_force(problem)
            assert found.value <= truth + 1e-9
            assert found.upper_bound >= truth - 1e-9
            exact = solve(problem, method="exact")
            assert exact.value == pytest.approx(truth, abs=1e-9)
            assert play_out(exact.policy) == pytest.approx(truth, abs=1e-9)


def test_the_best_order_of_phase_one_does_not_depend_on_values():
    """Optimal action at every history: after any values, a switch or the same next box."""
    problem = exposed(6, 3)
    policy = solve(problem, method="exact").policy
    assert len(policy.order) > 3

    def walk(opened, t):
        if t == len(policy.order):
            return
        name = policy.order[t]
        for v in problem.box(name).values:
            seen = {**opened, name: float(v)}
            left = PandoraInstance([b for b in problem.boxes if b.name not in seen])
            best = max(0.0, *seen.values())
            truth = brute_force(left, best)
            action_value = play_on(policy, seen)
            assert action_value == pytest.approx(truth, abs=1e-9)
            if not policy.switches(t + 1, best):
                walk(seen, t + 1)

    def play_on(policy, seen):
        action = policy.next_action(seen)
        kind = type(action).__name__
        if kind == "Take":
            return 0.0 if action.name is None else seen[action.name]
        box = problem.box(action.name)
        if kind == "Claim":
            return box.mean
        outcomes = zip(box.values, box.probs, strict=True)
        return -box.cost + sum(
            p * play_on(policy, {**seen, box.name: float(v)}) for v, p in outcomes
        )

    walk({}, 0)


@pytest.mark.parametrize(("height", "ratio"), [(10, 0.8696), (100, 0.8065), (1e3, 0.80064)])
def test_the_tight_family(height, ratio):
    for n in (2, 5):
        found = solve(tight(n, height=height), method="exact")
        assert found.value == pytest.approx(2.5 - 2 / height, abs=1e-10)
        assert found.committing == pytest.approx(2.0, abs=1e-10)
        assert found.committing / found.value == pytest.approx(ratio, abs=1e-4)


def test_the_tight_family_in_the_limit():
    found = solve(tight(height=1e5), method="exact")
    assert found.committing / found.value == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize("runs", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_committing_earns_four_fifths(runs):
    rng = np.random.default_rng(6)
    for k in range(runs):
        problem = instance(rng, int(rng.integers(1, 6)), KINDS[k % 4])
        found = solve(problem, method="exact")
        assert found.committing >= (0.8 - 1e-9) * found.value


def test_a_table_that_does_not_fit_is_refused_with_its_size():
    with pytest.raises(ConfigError, match=r"\d+ states takes \d+ bytes, more than the 64 allowed"):
        solve(exposed(8, 0), method="exact", max_bytes=64)
    assert solve(exposed(8, 0), max_bytes=64).method == "bnb"


def test_a_backup_is_left_out_where_its_bound_is_below_the_incumbent():
    reduced = reduce(exposed(8, 0))
    assert candidates(reduced.grid, np.inf) == []
    (bound, j), *_ = candidates(reduced.grid, 0.0)
    problem = with_backup(reduced.grid, j, bound)
    assert {*problem.prefix, *problem.pool, *problem.rest} == set(range(8))
    assert solve_exact(reduced, []).states == 0


@pytest.mark.parametrize(
    ("boxes", "value"),
    [
        ([], 0.0),
        ([Box([-1.0], [1.0], 0.5)], 0.0),
        ([Box([3.0], [1.0], 0.5)], 3.0),
        ([Box([3.0], [1.0], 0.0)], 3.0),
        ([Box([-4.0, 2.0], [0.5, 0.5], 0.25)], 0.75),
        ([Box([0.0, 2.0], [0.5, 0.5], 3.0)], 1.0),
        ([Box([0.0, 2.0], [0.5, 0.5], 0.0), Box([0.0, 4.0], [0.5, 0.5], 0.0)], 2.5),
    ],
)
def test_degenerate_instances(boxes, value):
    for method in ("auto", "exact", "types", "bnb"):
        found = solve(PandoraInstance(boxes), method=method)
        assert found.value == pytest.approx(value, abs=1e-12)
        assert found.certified


def test_point_masses_are_never_opened():
    boxes = [Box([float(k)], [1.0], 0.1, str(k)) for k in range(4)]
    policy = solve(PandoraInstance(boxes), method="exact").policy
    assert policy.to_dict() == {"order": [], "backup": "3", "thresholds": []}
