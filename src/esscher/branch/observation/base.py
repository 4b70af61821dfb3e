"""The observation: a bipartite graph of rows and columns, and who takes it.

Everything is of the transformed problem, which is a minimisation whatever the model's sense: min
c'x, with c SCIP's costs of the columns and ||c|| their Euclidean norm, 1 where that is 0. Row i has
coefficients a_i, norm ||a_i|| as SCIP has it (1 where it is 0), and sides l_i <= a_i x + k_i <= u_i
with a constant k_i. A row is shown once for each finite side, left-hand side first, with a sign s
of -1 for left-hand and +1 for right-hand sides. "Equal" is within SCIP's epsilon. Everything is
computed in float64 and rounded once.

`ROW_FEATURES`, with t the side:

- bias: s (t - k_i) / ||a_i||.
- objective_cosine: s a_i'c / (||a_i|| ||c||).
- is_tight: 1 where the activity in the LP equals t.
- dual: s y_i / (||a_i|| ||c||), y_i the dual value of the row. With the signs here a tight side has
  a value <= 0.
- age: LPs in a row in which the row was not tight, over (LPs solved + 5).

`COLUMN_FEATURES`, of column j, which is at position j in SCIP's LP; [l_j, u_j] its bounds at the
node:

- objective: c_j / ||c||.
- is_binary … is_continuous: type of the variable, one of four. What SCIP has found to be implied
  integral, and is not binary, is implicit.
- has_lower_bound, has_upper_bound: 1 where the bound is finite.
- reduced_cost: reduced cost / ||c||.
- value: x_j in the LP.
- fractionality: x_j minus its floor within SCIP's feasibility tolerance, 0 for continuous ones.
- at_lower_bound, at_upper_bound: 1 where x_j equals the bound.
- age: LPs in a row in which the column was 0, over (LPs solved + 5).
- incumbent_value: in the best solution; 0 without one, or where it leaves the variable open.
- average_incumbent_value: SCIP's average over the solutions found; 0 likewise.
- basis_lower … basis_zero: state in the LP's basis, one of four.

`TREE_FEATURES`, with D and P the lower bound of the tree and the best solution's objective, D0 and
P0 those at the first node observed in the solve, b the lower bound of the focus node, B that of its
best sibling, and N the nodes of the run. SCIP's infinity, 1e20, enters as the number it is: P is
1e20 before the first solution. Magnitudes up to 1e-9 count as 0; x / 0 is 0 for x = 0 and else 10
with the sign of x. In the end all are clipped to [-10, 10].

- dual_bound_change: |D0 - D| / |D0|.
- primal_bound_change: |P0 - P| / |P0|.
- gap_by_primal, gap_by_dual: |P - D| / |P0| and |P - D| / |D0|.
- gap: SCIP's, |P - D| / min(|P|, |D|) with the bounds in the user's terms, 10 where their signs
  differ or one is infinite.
- leaves_share, feasible_leaves_share, infeasible_leaves_share: open leaves, leaves with a feasible
  relaxation and infeasible leaves so far, each over N.
- nodes_by_iterations: N / LP iterations.
- siblings_share: open siblings / N.
- is_best, parent_is_best: 1 where the best open node, by the node selection, is the focus node or
  its parent.
- depth_share: depth / N.
- first_dual_by_bound, dual_by_bound: D0 / b and D / b.
- by_branching, by_constraints, by_propagation: shares of the node's bound changes by branching, by
  constraints and by other propagation; 0 where there are none.
- branchings_share: branchings that made the node / N.
- no_sibling: 1 without an open sibling; the four below are 0 then.
- sibling_is_best: 1 where the best open node is the best sibling.
- first_dual_by_sibling, dual_by_sibling, sibling_by_bound: D0 / B, D / B and B / b.
"""

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
