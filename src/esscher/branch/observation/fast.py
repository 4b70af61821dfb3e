"""The LP of a node as a graph, read by compiled loops over SCIP's getters.

What is read here equals `ReferenceReader`, and is written for whole arrays. Coefficients, norms and
cosines stay what they are as long as the LP has the same rows and columns; they are read again when
that changes, as where cuts come and go. Rows and columns are told apart by SCIP's own numbers,
which it does not use twice in a run, and not by their addresses, which it does; a row whose
coefficients change has another norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esscher.branch.observation.arithmetic import Scales, compiled_arithmetic
from esscher.branch.observation.getters import Floats, Getters, Items, Lp, Shorts, Words
from esscher.branch.observation.library import address_of
from esscher.branch.observation.program import address
from esscher.branch.observation.reference import AGE_OFFSET, LpGraph

__all__ = ["FastReader"]

Sides = tuple[Shorts, Shorts, Floats, Floats]
Edges = tuple[Shorts, Shorts, NDArray[np.float32]]


@dataclass(frozen=True)
class _Columns:
    """What stays while the LP has the same columns with the same costs.

    Attributes:
        key: number of the run, numbers of the columns in SCIP, and their costs.
        cost: [n] objective.
        norm: of it, 1 for 0.
        variables: of the columns; `held` owns the pointers, and `order` sorts them.
        template: [n, 19] features, of which those that stay are filled and the others 0.
        unknown: [1, n] zeros, values in solutions while there are none.
    """

    key: tuple[int, bytes, bytes]
    cost: Floats
    norm: float
    variables: Items
    held: Words
    order: Words
    template: NDArray[np.float32]
    unknown: Floats


@dataclass(frozen=True)
class _Rows:
    """What stays while the LP has the same rows and columns; R sides of m rows.

    Attributes:
        key: numbers of the rows in SCIP and of their entries in the LP, their norms, and which
            sides they have.
        sides: [R] each: row, 0 for left-hand or 1, sign over norm, and signed cosine.
    """

    columns: _Columns
    key: tuple[bytes, bytes, bytes]
    sides: Sides
    edges: Edges


class FastReader:
    """Reads what has changed since the last node.

    Raises:
        MissingExtra: if pyscipopt, llvmlite or numba is not installed.
        ConfigError: if the SCIP library is not found or known, or lacks a function.
    """

    def __init__(self, getters: Getters | None = None) -> None:
        self._get = getters or Getters()
        self._columns: _Columns | None = None
        self._rows: _Rows | None = None
        self._compute = compiled_arithmetic()
        self._scales = Scales(1.0, 1.0, 1e20, 1e-9, 1e-6)

    def begin(self, model: Any) -> None:
        """A solve begins: nothing of the last one is used any more."""
        self._columns = self._rows = None
        self._scales = Scales(1.0, 1.0, model.infinity(), model.epsilon(), model.feastol())

    def read(self, model: Any) -> LpGraph:
        """The LP of the focus node, computed in float64."""
        scip = address_of(model)
        lp = self._get.lp(scip)
        columns = self._columns_of(lp)
        rows = self._rows_of(lp, columns)
        solutions = columns.unknown, columns.unknown
        if lp.best:
            solutions = self._get.solutions(scip, lp.best, columns.variables)
        scales = self._scales._replace(norm=columns.norm, age=1 / (model.getNLPs() + AGE_OFFSET))
        shown = columns.template.copy()
        found = (lp.column_reals, lp.reduced_cost, *solutions, lp.column_wholes)
        self._compute.columns(found, scales, shown)
        sides = np.empty((len(rows.sides[0]), 5), dtype=np.float32)
        found_rows = lp.row_reals, lp.activity, lp.row_wholes
        self._compute.sides(found_rows, rows.sides, scales, sides)
        return LpGraph(sides, shown, *rows.edges)

    def positions(self, variables: Sequence[Any]) -> Shorts:
        """[K] positions of variables among the columns that were read last, or -1."""
        known = self._columns
        if known is None or not len(known.held):
            return np.full(len(variables), -1, np.int32)
        held, order = known.held, known.order
        wanted = np.array([variable.ptr() for variable in variables], dtype=np.int64)
        places = order[np.searchsorted(held, wanted, sorter=order) % len(order)]
        return np.where(held[places] == wanted, places, -1).astype(np.int32)

    def _columns_of(self, lp: Lp) -> _Columns:
        known, cost = self._columns, lp.column_reals[0]
        key = lp.runs, lp.column_wholes[0].tobytes(), cost.tobytes()
        if known is None or known.key != key:
            known = self._columns = self._new_columns(lp.columns, key, cost.copy())
        return known

    def _rows_of(self, lp: Lp, columns: _Columns) -> _Rows:
        wholes, norm = lp.row_wholes, lp.row_reals[3]
        finite = np.abs(lp.row_reals[:2]) < self._scales.infinity
        known, key = self._rows, (wholes[:2].tobytes(), norm.tobytes(), finite.tobytes())
        if known is None or known.columns is not columns or known.key != key:
            known = self._rows = _Rows(columns, key, *self._new_rows(lp, columns, finite))
        return known

    def _new_columns(self, items: Items, key: tuple[int, bytes, bytes], cost: Floats) -> _Columns:
        held = self._get.pointers(("SCIPcolGetVar",), items)[0]
        variables = address(held), items[1]
        kinds = self._get.wholes(("SCIPvarGetType", "SCIPvarIsImpliedIntegral"), variables)
        norm = math.sqrt(cost @ cost) or 1.0
        template = np.zeros((items[1], 19), dtype=np.float32)
        self._compute.template(cost, kinds, norm, template)
        unknown = np.zeros((1, items[1]))
        return _Columns(key, cost, norm, variables, held, np.argsort(held), template, unknown)

    def _new_rows(
        self, lp: Lp, columns: _Columns, finite: NDArray[np.bool_]
    ) -> tuple[Sides, Edges]:
        counts = lp.row_wholes[1]
        entries = self._coefficients(lp.rows, counts, len(columns.cost))
        per_row = finite.sum(0)
        r, e = int(per_row.sum()), int(counts @ per_row)
        sides = np.empty(r, np.int32), np.empty(r, np.int32), np.empty(r), np.empty(r)
        edges = np.empty(e, np.int32), np.empty(e, np.int32), np.empty(e, np.float32)
        rows, costs = (counts, lp.row_reals[3], finite), (columns.cost, columns.norm)
        self._compute.edges(rows, entries, costs, sides, edges)
        return sides, edges

    def _coefficients(self, items: Items, counts: Shorts, width: int) -> tuple[Shorts, Floats]:
        """Column and value of every coefficient of the LP, by row and then by column."""
        held, values = self._get.pointers(("SCIProwGetCols", "SCIProwGetVals"), items)
        value = self._get.join(values, counts, np.float64)
        held = self._get.join(held, counts, np.int64)
        at = self._get.wholes(("SCIPcolGetLPPos",), (address(held), len(held)))[0]
        key = np.repeat(np.arange(items[1]), counts) * width + at
        if np.any(key[1:] < key[:-1]):
            order = np.argsort(key)
            at, value = at[order], value[order]
        return at, value
