"""Random graphs and cliques, by hand and by what they must have."""

from itertools import combinations

import numpy as np
import pytest

from esscher.branch.instances.graph import barabasi_albert, clique_partition, erdos_renyi


def graph_of(n, edges):
    graph = [set() for _ in range(n)]
    for u, v in edges:
        graph[u].add(v)
        graph[v].add(u)
    return graph


def edges_of(graph):
    return sorted((u, v) for u, others in enumerate(graph) for v in others if u < v)


def test_the_first_new_node_joins_all_before_it():
    for seed in range(5):
        graph = barabasi_albert(4, 3, np.random.default_rng(seed))
        assert graph == [{3}, {3}, {3}, {0, 1, 2}]


def test_later_nodes_join_as_many_as_the_affinity():
    for seed in range(10):
        graph = barabasi_albert(30, 4, np.random.default_rng(seed))
        assert len(edges_of(graph)) == 4 * 26
        for node in range(4, 30):
            assert sum(other < node for other in graph[node]) == 4
        assert all(node not in others for node, others in enumerate(graph))


def test_neighbours_are_drawn_by_degree():
    """With affinity 1, node 2 joins 0 or 1 (degree 1 each); node 3 the one of degree 2 by half."""
    counts = np.zeros(4)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        graph = barabasi_albert(4, 1, rng)
        hub = next(node for node in range(2) if 2 in graph[node])
        counts[0 if hub in graph[3] else 1] += 1
    assert counts[0] / 2000 == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(2000))


def test_edges_of_others_procedure():
    """Those of Gasse et al. for nine nodes, affinity two and seed 2."""
    expected = [
        (0, 2), (0, 3), (1, 2), (1, 3), (1, 4), (1, 5), (1, 6), (1, 7), (1, 8), (2, 4), (2, 5),
        (2, 6), (2, 8), (4, 7),
    ]  # fmt: skip
    assert edges_of(barabasi_albert(9, 2, np.random.RandomState(2))) == expected
    uniform = edges_of(erdos_renyi(30, 0.25, np.random.RandomState(0)))
    assert len(uniform) == 115
    assert uniform[:5] == [(0, 15), (0, 16), (0, 17), (0, 25), (0, 27)]


def test_pairs_are_joined_with_their_probability():
    assert edges_of(erdos_renyi(7, 0.0, np.random.default_rng(0))) == []
    assert len(edges_of(erdos_renyi(7, 1.0, np.random.default_rng(0)))) == 21
    share = len(edges_of(erdos_renyi(200, 0.25, np.random.default_rng(0)))) / 19900
    assert share == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 19900))


def test_cliques_by_hand():
    """Node 2 has degree 4 and comes first, then 1 and 3 (3 each); 1 enters, 3 is not next to 1.

    0 is next to both and enters. Left are 3, 4, 5: 3 is the next centre, 4 and 5 are its
    neighbours but not each other's, and 4 (degree 2) comes before 5 (degree 1).
    """
    edges = [(0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4), (3, 5), (1, 6)]
    assert clique_partition(graph_of(7, edges)) == [[0, 1, 2], [3, 4], [5], [6]]


def test_cliques_of_extreme_graphs():
    assert clique_partition(graph_of(4, combinations(range(4), 2))) == [[0, 1, 2, 3]]
    assert clique_partition(graph_of(3, [])) == [[0], [1], [2]]
    star = graph_of(5, [(4, leaf) for leaf in range(4)])
    assert clique_partition(star) == [[0, 4], [1], [2], [3]]


@pytest.mark.parametrize("seed", range(10))
def test_every_node_is_in_one_clique(seed):
    graph = erdos_renyi(20, 0.5, np.random.default_rng(seed))
    cliques = clique_partition(graph)
    assert sorted(node for clique in cliques for node in clique) == list(range(20))
    for clique in cliques:
        assert all(v in graph[u] for u, v in combinations(clique, 2))
    degrees = [len(others) for others in graph]
    assert max(degrees[node] for node in cliques[0]) == max(degrees)
