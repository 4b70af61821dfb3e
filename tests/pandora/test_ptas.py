"""The approximation scheme: the two halves of its proof, and what it promises."""

import itertools
import math

import numpy as np
import pytest

from esscher.errors import ConfigError
from esscher.pandora import ptas
from esscher.pandora.bounds import best_committing
from esscher.pandora.box import Box
from esscher.pandora.chains import Block, assign
from esscher.pandora.exact import Found
from esscher.pandora.instance import PandoraInstance
from esscher.pandora.policy import order_value
from esscher.pandora.ptas import _Search
from esscher.pandora.scheme import SLACK, Scheme
from esscher.pandora.screening import Backup
from esscher.pandora.solve import solve
from esscher.pandora.weitzman import Grid


def draw(rng, n):
    boxes = []
    for _ in range(n):
        values = np.array([0.0, rng.uniform(0.5, 3), rng.uniform(3, 30)])
        probs = rng.dirichlet([1, 1, 0.3])
        boxes.append(Box(values, probs, rng.uniform(0, 0.5) * float(values @ probs)))
    return PandoraInstance(boxes)


def best_order(grid, backup):
    """The best order before one backup, by listing all of them."""
    others = [i for i in range(len(grid.boxes)) if i != backup]
    orders = [o for k in range(len(others) + 1) for o in itertools.permutations(others, k)]
    return max(orders, key=lambda order: order_value(grid, order, backup))


def optimum(instance):
    grid = Grid(instance)
    found = best_committing(grid).value
    for j in range(len(grid.boxes)):
        found = max(found, order_value(grid, best_order(grid, j), j))
    return found


def interesting(seed, n=4, below=1 - 1e-6):
    """An instance whose optimum no committing policy reaches."""
    rng = np.random.default_rng(seed)
    while True:
        instance = draw(rng, n)
        if best_committing(Grid(instance)).value < below * optimum(instance):
            return instance


def whole(grid, j):
    """A backup with all other boxes in the pool."""
    others = tuple(i for i in range(len(grid.boxes)) if i != j)
    return Backup(j, math.inf, (), others, (j,))


def right_guess(scheme, grid, order, j):
    """The guess that the proof makes of an optimal order, from its values and sets."""
    values = [order_value_from(grid, order, t, j) for t in range(len(order) + 1)]
    closed = [frozenset(range(len(grid.boxes))) - set(order[:t]) for t in range(len(order) + 1)]
    search = [float(grid.search(grid.product(sorted(s)))[0]) for s in closed]
    delta, chain, opened = scheme.delta, [], []
    steps = list(range(1, len(order) + 1))
    cells = [(values[t] // delta, search[t] // delta) for t in steps]
    for t, cell in zip(steps, cells, strict=True):
        opened.append(scheme.pool.index(order[t - 1]))
        removed = tuple(scheme.problem.removal[opened].sum(0).tolist())
        block = Block(int(values[t] // delta), removed, values[t - 1] - values[t] > delta)
        if chain and cells[t - 2] == cell and not chain[-1].alone and not block.alone:
            chain[-1] = block
        else:
            chain.append(block)
    return chain, values[0]


def order_value_from(grid, order, t, j):
    """What the rest of the order is worth once its first t boxes are open and gone."""
    gone = set(order[:t])
    left = [i for i in range(len(grid.boxes)) if i not in gone and i not in order[t:]]
    cdf, value = grid.product(left), grid.boxes[j].mean
    for i in reversed(order[t:]):
        box = grid.boxes[i]
        value = float(box.probs @ np.maximum(value, grid.search(cdf)[box.columns])) - box.cost
        cdf = cdf * grid.row(i)
    return value


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("eps", [0.3, 0.02])
def test_the_right_guess_promises_the_optimum(seed, eps):
    """First half of the proof: some guess is met and promises what the best order is worth."""
    grid = Grid(interesting(seed))
    for j in range(len(grid.boxes)):
        order = best_order(grid, j)
        if not order:
            continue
        scheme = Scheme(grid, whole(grid, j), best_committing(grid).value, eps)
        chain, value = right_guess(scheme, grid, order, j)
        found = assign(scheme.problem, chain)
        assert found.promise * scheme.delta / len(scheme.pool) >= value - 2 * scheme.delta


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("eps", [0.6, 0.1])
def test_no_guess_promises_more_than_its_policy_is_worth(seed, eps):
    """Second half: whatever meets a guess is worth its promise, but for SLACK + 3 δ."""
    grid = Grid(interesting(seed, 3))
    for j in range(len(grid.boxes)):
        scheme = Scheme(grid, whole(grid, j), best_committing(grid).value, eps)
        for _, step in zip(range(150), scheme.steps([-math.inf]), strict=False):
            value = order_value(grid, step.order, j)
            assert value >= step.promise - (SLACK + 3) * scheme.delta


def approximate(instance, eps, **settings):
    return solve(instance, eps, method="ptas", **settings)


def check(instance, eps):
    best = optimum(instance)
    found = approximate(instance, eps)
    assert found.certified
    assert (1 - eps) * best - 1e-9 <= found.value <= best + 1e-9
    assert best - 1e-9 <= found.upper_bound
    assert found.gap <= eps + 1e-9
    assert found.value == pytest.approx(found.policy.value)
    return found


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("eps", [0.1, 0.05])
def test_it_is_within_eps_of_the_optimum_and_says_so(seed, eps):
    check(interesting(100 + seed), eps)


@pytest.mark.parametrize(
    "seed", [1, 5, *(pytest.param(s, marks=pytest.mark.slow) for s in (0, 2, 3, 4))]
)
def test_guesses_run_out_only_when_nothing_better_is_left(seed, monkeypatch):
    """Without the bound that ends most searches early, and without a good order to begin with."""
    monkeypatch.setattr(ptas, "improve", lambda grid, problem, order, deadline: (0.0, []))
    instance = interesting(200 + seed, 3, below=0.999)
    grid = Grid(instance)
    first, eps = best_committing(grid).value, 0.1
    for j in range(len(grid.boxes)):
        search = _Search(grid, eps, math.inf, Found(first, (), None, 0))
        search.go_through(Scheme(grid, whole(grid, j), first, eps), whole(grid, j))
        assert search.complete
        assert search.best.value >= (1 - eps) * order_value(grid, best_order(grid, j), j) - 1e-9


def test_it_searches_where_committing_is_not_within_eps():
    tight = PandoraInstance([Box([0, 2], [0.5, 0.5], 0.01), Box([0, 100], [0.98, 0.02], 1.0)])
    found = approximate(tight, 0.01)
    assert found.work > 0
    assert found.value > 1.2 * found.committing


def test_the_cost_is_told_before_the_work():
    told = []
    instance = interesting(3, below=0.97)
    approximate(instance, 0.005, time_limit=1e-9, tell=told.append)
    assert len(told) == 1
    assert "10^" in told[0]


def test_a_time_limit_gives_a_policy_and_a_bound():
    instance = interesting(3, below=0.97)
    found = approximate(instance, 1e-4, time_limit=1e-9)
    assert found.value <= optimum(instance) + 1e-9 <= found.upper_bound + 2e-9
    assert not found.certified
    assert "stopped" in found.note


@pytest.mark.parametrize("eps", [0.0, 1.0])
def test_eps_out_of_range_is_refused(eps):
    with pytest.raises(ConfigError, match="eps in"):
        approximate(PandoraInstance([Box([1], [1], 0)]), eps)


def test_nothing_to_gain_is_no_work():
    empty = approximate(PandoraInstance([]), 0.1)
    assert (empty.value, empty.work) == (0.0, 0)
    worthless = approximate(PandoraInstance([Box([-2, -1], [0.5, 0.5], 1)]), 0.1)
    assert worthless.value == 0.0
