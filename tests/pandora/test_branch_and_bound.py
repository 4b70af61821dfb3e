"""Bounds at the root on both sides of the optimum."""

import time

import numpy as np
import pytest

from esscher.pandora import branch_and_bound as search
from esscher.pandora import solve
from esscher.pandora.exact import plan, solve_exact
from esscher.pandora.families import FAMILIES, exposed, hardness_stress
from esscher.pandora.policy import order_value
from esscher.pandora.relaxation import Relaxation
from esscher.pandora.screening import reduce
from tests.pandora.problems import KINDS, instance


@pytest.fixture(autouse=True)
def _no_tables(monkeypatch):
    monkeypatch.setattr(search, "SMALL", 1)


@pytest.mark.parametrize("eps", [1e-2, 1e-4, 0.0])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_value_and_bound_enclose_the_optimum(name, eps):
    for seed, n in ((0, 6), (1, 8)):
        problem = FAMILIES[name](n, seed)
        truth = solve(problem, method="exact").value
        found = solve(problem, eps, method="bnb")
        assert found.value <= truth + 1e-9
        assert found.upper_bound >= truth - 1e-9
        assert found.certified
        assert found.gap <= eps + 1e-12
        assert found.policy.value == found.value


@pytest.mark.parametrize("kind", KINDS)
def test_small_instances_of_all_kinds(kind):
    rng = np.random.default_rng(0)
    for _ in range(60):
        problem = instance(rng, int(rng.integers(2, 9)), kind)
        truth = solve(problem, method="exact").value
        found = solve(problem, 1e-6, method="bnb")
        assert found.value <= truth + 1e-9
        assert found.upper_bound >= truth - 1e-9
        assert found.gap <= 1e-6


@pytest.mark.parametrize("height", [(4.5, 8.0), (50.0, 200.0)])
def test_stopped_early_the_bounds_still_hold(height):
    problem = exposed(14, 0, height=height)
    truth = solve(problem, method="exact").value
    reduced = reduce(problem)
    for nodes in (0, 1, 3):
        found = search.branch_and_bound(reduced, 0.0, max_nodes=nodes)
        assert not found.finished or nodes > 0
        assert reduced.grid.base + found.found.value <= truth + 1e-9
        assert reduced.grid.base + found.upper >= truth - 1e-9


def test_the_relaxation_is_below_the_shortfall_of_every_subset():
    """The truth for a pool without one box is the optimum of the lattice state without it."""
    for make, seed in ((exposed, 0), (exposed, 1), (hardness_stress, 0)):
        reduced = reduce(make(9, seed))
        grid = reduced.grid
        for problem in plan(reduced):
            relaxed = Relaxation(grid, problem, [0.02, 0.1, 0.5])
            short = relaxed.shortfall(problem.pool)
            assert short.whole <= true_shortfall(reduced, problem, problem.pool) + 1e-12
            for k, bound in enumerate(short.without):
                left = (*problem.pool[:k], *problem.pool[k + 1 :])
                assert bound <= true_shortfall(reduced, problem, left) + 1e-12
            assert set(short.order) <= set(problem.pool)
            order = (*problem.prefix, *short.order)
            assert order_value(grid, order, problem.box) <= solve_exact(reduced).value + 1e-12


def true_shortfall(reduced, problem, pool):
    from esscher.pandora.lattice import Lattice

    grid = reduced.grid
    lattice = Lattice(grid, problem.rest, [[i] for i in pool], grid.boxes[problem.box].mean)
    beta = grid.boxes[problem.box].beta
    ahead = grid.at(grid.product((*problem.rest, *pool)), max(beta, 0.0))
    return ahead - lattice.solve().best()


def test_a_time_limit_is_kept_and_said():
    begun = time.monotonic()
    found = solve(exposed(60, 0, mass=2.0), 0.0, method="bnb", time_limit=0.5)
    assert time.monotonic() - begun < 5.0
    assert not found.certified
    assert found.gap > 0
    assert "stopped" in found.note


@pytest.mark.slow
def test_forty_boxes_that_committing_does_not_solve():
    found = solve(exposed(40, 1), 2e-3, method="bnb", time_limit=60.0)
    assert found.certified
    assert found.gap <= 2e-3
    assert found.committing < 0.9 * found.value
