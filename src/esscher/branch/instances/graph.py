"""Random graphs, and cliques that cover one."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from esscher.branch.instances.kind import Draw

__all__ = ["Graph", "barabasi_albert", "clique_partition", "erdos_renyi"]

Graph: TypeAlias = list[set[int]]
"""Neighbours of each node; no loops, every edge at both its ends."""


def barabasi_albert(n_nodes: int, affinity: int, rng: Draw) -> Graph:
    """Grow a graph by preferential attachment.

    Node `affinity` is joined to all before it; every later one to `affinity` distinct nodes, drawn
    by their degrees.

    Args:
        n_nodes: more than affinity.
        affinity: at least 1.
        rng: source of random numbers.
    """
    graph: Graph = [set() for _ in range(n_nodes)]
    degrees = np.zeros(n_nodes)
    for node in range(affinity, n_nodes):
        if node == affinity:
            others = np.arange(node)
        else:
            chances = degrees[:node] / degrees[:node].sum()
            others = rng.choice(node, affinity, replace=False, p=chances)
        degrees[others] += 1
        degrees[node] = affinity
        for other in others.tolist():
            _join(graph, node, other)
    return graph


def erdos_renyi(n_nodes: int, edge_probability: float, rng: Draw) -> Graph:
    """Join every pair of nodes with the same probability, independently."""
    graph: Graph = [set() for _ in range(n_nodes)]
    first, second = np.triu_indices(n_nodes, k=1)
    joined = rng.random(len(first)) < edge_probability
    for node, other in zip(first[joined].tolist(), second[joined].tolist(), strict=True):
        _join(graph, node, other)
    return graph


def clique_partition(graph: Graph) -> list[list[int]]:
    """Split the nodes into cliques, greedily.

    The node of greatest degree that is left is the centre of the next clique; its neighbours that
    are left join by descending degree where they are adjacent to all members. Of equal degrees the
    smaller number comes first.

    Returns:
        The cliques in the order they were made, members ascending.
    """
    order = sorted(range(len(graph)), key=lambda node: -len(graph[node]))
    rank = {node: position for position, node in enumerate(order)}
    left = set(order)
    cliques = []
    for centre in order:
        if centre not in left:
            continue
        clique = [centre]
        for node in sorted(graph[centre] & left, key=rank.__getitem__):
            if graph[node].issuperset(clique):
                clique.append(node)
        left.difference_update(clique)
        cliques.append(sorted(clique))
    return cliques


def _join(graph: Graph, node: int, other: int) -> None:
    graph[node].add(other)
    graph[other].add(node)
