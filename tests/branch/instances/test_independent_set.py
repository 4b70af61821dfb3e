"""Independent sets: rows by hand, and the same sets as the graph's."""

from itertools import combinations, product

import numpy as np
import pytest

from esscher.branch.instances.graph import barabasi_albert, erdos_renyi
from esscher.branch.instances.independent_set import IndependentSet, independent_set_milp
from esscher.errors import ConfigError
from tests.branch.brute import enumerate_optimum
from tests.branch.instances.test_graph import graph_of


def test_the_program_by_hand():
    """Cliques 012 and 34 stand for their edges; 23, 24, 35 and 16 run between cliques."""
    edges = [(0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4), (3, 5), (1, 6)]
    milp = independent_set_milp(graph_of(8, edges), "by hand")
    groups = [[0, 1, 2], [3, 4], [1, 6], [2, 3], [2, 4], [3, 5]]
    expected = np.zeros((6, 8))
    for row, group in enumerate(groups):
        expected[row, group] = 1
    np.testing.assert_array_equal(milp.matrix.toarray(), expected)
    assert (milp.objective == 1).all()
    assert milp.maximise
    assert milp.integer.all()
    assert (milp.row_high == 1).all()
    # 0, 4, 5, 6 and the lonely 7.
    assert enumerate_optimum(milp).value == 5


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("make", [lambda rng: barabasi_albert(10, 3, rng),
                                  lambda rng: erdos_renyi(10, 0.5, rng)])  # fmt: skip
def test_feasible_points_are_the_independent_sets(make, seed):
    graph = make(np.random.default_rng(seed))
    milp = independent_set_milp(graph, "small")
    points = np.array(list(product([0, 1], repeat=10)))
    feasible = (points @ milp.matrix.toarray().T <= 1).all(axis=1)
    for point, fits in zip(points, feasible, strict=True):
        chosen = np.flatnonzero(point).tolist()
        assert fits == all(v not in graph[u] for u, v in combinations(chosen, 2))


def test_the_graph_can_be_chosen():
    grown = IndependentSet(25).sample(np.random.default_rng(0))
    uniform = IndependentSet(25, graph="erdos-renyi").sample(np.random.default_rng(0))
    assert grown.matrix.shape != uniform.matrix.shape
    none = IndependentSet(5, graph="erdos-renyi", edge_probability=0.0)
    assert none.sample(np.random.default_rng(0)).matrix.shape == (0, 5)
    assert IndependentSet(3, affinity=9, graph="erdos-renyi").n_nodes == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_nodes": 1}, "n_nodes"),
        ({"affinity": 0}, "affinity"),
        ({"n_nodes": 4, "affinity": 4}, "affinity must be less than n_nodes, got 4 >= 4"),
        ({"edge_probability": -0.1}, "edge_probability"),
        ({"graph": "star"}, "graph must be one of barabasi-albert, erdos-renyi"),
    ],
)
def test_impossible_parameters_are_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        IndependentSet(**fields)
