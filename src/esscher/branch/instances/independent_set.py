"""Maximum independent set on random graphs (Bergman et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from esscher.branch.instances.graph import (
    Graph,
    barabasi_albert,
    clique_partition,
    erdos_renyi,
)
from esscher.branch.instances.kind import Draw, check_number, check_whole
from esscher.branch.milp import Milp
from esscher.errors import ConfigError

__all__ = ["IndependentSet", "independent_set_milp"]

GRAPHS = ("barabasi-albert", "erdos-renyi")


@dataclass(frozen=True)
class IndependentSet:
    """Choose as many nodes as possible, no two of them adjacent.

    Attributes:
        n_nodes: at least 2.
        affinity: neighbours of a new node in "barabasi-albert", in 1 .. n_nodes - 1.
        graph: "barabasi-albert" or "erdos-renyi".
        edge_probability: of "erdos-renyi".

    Raises:
        ConfigError: if a field is out of range; it is named.
    """

    n_nodes: int = 500
    affinity: int = 4
    graph: str = "barabasi-albert"
    edge_probability: float = 0.25

    def __post_init__(self) -> None:
        check_whole("n_nodes", self.n_nodes, 2)
        check_whole("affinity", self.affinity, 1)
        check_number("edge_probability", self.edge_probability, 0.0, 1.0)
        if self.graph not in GRAPHS:
            raise ConfigError(f"graph must be one of {', '.join(GRAPHS)}, got {self.graph!r}")
        if self.graph == "barabasi-albert" and self.affinity >= self.n_nodes:
            raise ConfigError(
                f"affinity must be less than n_nodes, got {self.affinity} >= {self.n_nodes}"
            )

    @property
    def name(self) -> str:
        """Such as "independent-set-500": nodes."""
        return f"independent-set-{self.n_nodes}"

    def sample(self, rng: Draw) -> Milp:
        """Draw a program."""
        if self.graph == "erdos-renyi":
            graph = erdos_renyi(self.n_nodes, self.edge_probability, rng)
        else:
            graph = barabasi_albert(self.n_nodes, self.affinity, rng)
        return independent_set_milp(graph, self.name)


def independent_set_milp(graph: Graph, name: str) -> Milp:
    """The program of a graph.

    Args:
        graph: its nodes are the variables.
        name: of the program.

    Returns:
        max sum x, x binary; a row sum x <= 1 per clique of two nodes or more of a greedy partition,
        which stands for all edges within, then a row x_u + x_v <= 1 per edge between cliques, by u,
        then v. A node without edges is in no row.
    """
    cliques = clique_partition(graph)
    home = {node: place for place, clique in enumerate(cliques) for node in clique}
    groups = [clique for clique in cliques if len(clique) > 1]
    groups += [
        [node, other]
        for node, others in enumerate(graph)
        for other in sorted(others)
        if node < other and home[node] != home[other]
    ]
    starts = np.cumsum([0, *map(len, groups)])
    columns = np.array([node for group in groups for node in group], dtype=np.int64)
    m, n = len(groups), len(graph)
    return Milp(
        objective=np.ones(n),
        matrix=sparse.csr_array((np.ones(len(columns)), columns, starts), shape=(m, n)),
        row_low=np.full(m, -np.inf),
        row_high=np.ones(m),
        low=np.zeros(n),
        high=np.ones(n),
        integer=np.ones(n, dtype=np.bool_),
        maximise=True,
        name=name,
    )
