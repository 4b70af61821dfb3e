"""The observation: a bipartite graph of rows and columns, and who takes it."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from esscher.branch.focus import Focus

__all__ = ["COLUMN_FEATURES", "ROW_FEATURES", "TREE_FEATURES", "Observation", "Observer"]

ROW_FEATURES = (
    "bias", "objective_cosine", "is_tight", "dual", "age",
)  # fmt: skip
COLUMN_FEATURES = (
    "objective", "is_binary", "is_integer", "is_implicit_integer", "is_continuous",
    "has_lower_bound", "has_upper_bound", "reduced_cost", "value", "fractionality",
    "at_lower_bound", "at_upper_bound", "age", "incumbent_value", "average_incumbent_value",
    "basis_lower", "basis_basic", "basis_upper", "basis_zero",
)  # fmt: skip
TREE_FEATURES = (
    "dual_bound_change", "primal_bound_change", "gap_by_primal", "gap_by_dual", "gap",
    "leaves_share", "feasible_leaves_share", "infeasible_leaves_share", "nodes_by_iterations",
    "siblings_share", "is_best", "parent_is_best", "depth_share", "first_dual_by_bound",
    "dual_by_bound", "by_branching", "by_constraints", "by_propagation", "branchings_share",
    "no_sibling", "sibling_is_best", "first_dual_by_sibling", "dual_by_sibling",
    "sibling_by_bound",
)  # fmt: skip


class Observation(NamedTuple):
    """One node's LP as a graph. Row sides and columns are its nodes, coefficients its edges.

    Arrays that did not change since the last observation of the same solve may be the same objects,
    so that storing many observations shares them.

    Attributes:
        rows: [R, 5] float32, `ROW_FEATURES` of every finite side of every row.
        columns: [C, 19] float32, `COLUMN_FEATURES` of every column.
        tree: [24] float32, `TREE_FEATURES`, or [0] where they are not wanted.
        edge_row: [E] int32, row side of every coefficient, ascending.
        edge_column: [E] int32, column of it.
        edge_value: [E] float32, coefficient over its row's norm, negated for left-hand sides.
        candidates: [K] int32, columns of the candidates, in the order of `Focus.variables`.
    """

    rows: NDArray[np.float32]
    columns: NDArray[np.float32]
    tree: NDArray[np.float32]
    edge_row: NDArray[np.int32]
    edge_column: NDArray[np.int32]
    edge_value: NDArray[np.float32]
    candidates: NDArray[np.int32]


class Observer(Protocol):
    """Takes observations of one solve after another."""

    def begin(self, model: Any) -> None:
        """A solve begins; the model is in its solving stage."""
        ...

    def observe(self, focus: Focus) -> Observation:
        """The focus node as a graph."""
        ...
