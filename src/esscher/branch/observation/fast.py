"""The LP of a node as a graph, read by compiled loops over SCIP's getters.

What is read here equals `ReferenceReader`, and is written for whole arrays. Coefficients, norms and
cosines stay what they are as long as the LP has the same rows and columns; they are read again when
that changes, as where cuts come and go. Rows and columns are told apart by SCIP's own numbers,
which it does not use twice in a run, and not by their addresses, which it does; a row whose
coefficients change has another norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esscher.branch.observation.arithmetic import Scales, compiled_arithmetic
from esscher.branch.observation.getters import (
    COLUMN_REALS,
    COLUMN_WHOLES,
    ROW_REALS,
    ROW_WHOLES,
    Floats,
    Getters,
    Items,
    Shorts,
    State,
    Words,
    address,
)
from esscher.branch.observation.library import address_of
from esscher.branch.observation.reference import AGE_OFFSET, LpGraph

__all__ = ["FastReader"]

_CONTINUOUS = 3
Edges = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


@dataclass(frozen=True)
class _Columns:
    """What stays while the LP has the same columns with the same costs.

    Attributes:
        key: number of the run, numbers of the columns in SCIP, and their costs.
        cost: [n] objective.
        norm: of it, 1 for 0.
        variables: of the columns; `held` owns the pointers.
        continuous: [n] of type.
        template: [n, 19] features, of which those that stay are filled and the others 0.
    """

    key: tuple[int, bytes, bytes]
    cost: Floats
    norm: float
    variables: Items
    held: Words
    continuous: NDArray[np.bool_]
    template: NDArray[np.float32]


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
    sides: tuple[Shorts, Shorts, Floats, Floats]
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
        state = self._get.state(scip)
        scales = self._scales._replace(age=1 / (model.getNLPs() + AGE_OFFSET))
        columns, shown = self._read_columns(scip, state, scales)
        rows, sides = self._read_rows(scip, state.rows, scales, columns)
        return LpGraph(sides, shown, *rows.edges)

    def positions(self, variables: Sequence[Any]) -> Shorts:
        """[K] positions of variables among the columns of the LP; -1 of those not there, if any."""
        held = np.array([variable.ptr() for variable in variables], dtype=np.int64)
        items = address(held), len(held)
        there = self._get.wholes(("SCIPvarIsInLP",), items)[0]
        if not there.all():
            return np.where(there, 0, -1).astype(np.int32)
        columns = self._get.pointers(("SCIPvarGetCol",), items)[0]
        places: Shorts = self._get.wholes(("SCIPcolGetLPPos",), (address(columns), len(columns)))[0]
        return places.copy()

    def _read_columns(
        self, scip: int, state: State, scales: Scales
    ) -> tuple[_Columns, NDArray[np.float32]]:
        get, items = self._get, state.columns
        reals, wholes = get.reals(COLUMN_REALS, items), get.wholes(COLUMN_WHOLES, items)
        known, key = self._columns, (state.runs, wholes[0].tobytes(), reals[0].tobytes())
        if known is None or known.key != key:
            known = self._columns = self._new_columns(items, key, reals[0].copy())
        shown = known.template.copy()
        reduced_cost = get.reals(("SCIPgetColRedcost",), items, scip)[0]
        scales = scales._replace(norm=known.norm)
        self._compute.columns((reals, reduced_cost, wholes), known.continuous, scales, shown)
        if state.best:
            values = get.reals(("SCIPgetSolVal",), known.variables, scip, state.best)[0]
            shown[:, 13] = self._known(values)
            shown[:, 14] = self._known(get.reals(("SCIPvarGetAvgSol",), known.variables)[0])
        return known, shown

    def _known(self, values: Floats) -> Floats:
        values[np.abs(values) >= self._scales.infinity] = 0
        return values

    def _new_columns(self, items: Items, key: tuple[int, bytes, bytes], cost: Floats) -> _Columns:
        held = self._get.pointers(("SCIPcolGetVar",), items).copy()
        variables = address(held), items[1]
        kinds = ("SCIPvarGetType", "SCIPvarIsImpliedIntegral")
        kind, implied = self._get.wholes(kinds, variables)
        kind[(implied != 0) & (kind != 0)] = 2
        norm = float(np.linalg.norm(cost)) or 1.0
        template = np.zeros((items[1], 19), dtype=np.float32)
        template[:, 0] = cost / norm
        template[np.arange(items[1]), 1 + kind] = 1
        return _Columns(key, cost, norm, variables, held, kind == _CONTINUOUS, template)

    def _read_rows(
        self, scip: int, items: Items, scales: Scales, columns: _Columns
    ) -> tuple[_Rows, NDArray[np.float32]]:
        get = self._get
        reals, wholes = get.reals(ROW_REALS, items), get.wholes(ROW_WHOLES, items)
        finite, norm = np.abs(reals[:2]) < scales.infinity, reals[3]
        known, key = self._rows, (wholes[:2].tobytes(), norm.tobytes(), finite.tobytes())
        if known is None or known.columns is not columns or known.key != key:
            made = self._new_rows(items, columns, wholes[1], norm, finite)
            known = self._rows = _Rows(columns, key, *made)
        activity = get.reals(("SCIPgetRowLPActivity",), items, scip)[0]
        shown = np.empty((len(known.sides[0]), 5), dtype=np.float32)
        scales = scales._replace(norm=columns.norm)
        self._compute.sides((reals, activity, wholes), known.sides, scales, shown)
        return known, shown

    def _new_rows(
        self,
        items: Items,
        columns: _Columns,
        counts: Shorts,
        norm: Floats,
        finite: NDArray[np.bool_],
    ) -> tuple[tuple[Shorts, Shorts, Floats, Floats], Edges]:
        row_of, at, value = self._coefficients(items, counts, len(columns.cost))
        product = np.bincount(row_of, value * columns.cost[at], minlength=items[1])
        row, right = np.nonzero(finite.T)
        scale = np.where(right == 1, 1.0, -1.0) / np.where(norm > 0, norm, 1.0)[row]
        length = counts[row]
        edge_side = np.repeat(np.arange(len(row)), length)
        start = np.cumsum(counts) - counts
        place = np.arange(len(edge_side)) - np.repeat(np.cumsum(length) - length, length)
        place += start[row][edge_side]
        edges = (
            edge_side.astype(np.int32),
            at[place],
            (value[place] * scale[edge_side]).astype(np.float32),
        )
        cosine = product[row] * scale / columns.norm
        return (row.astype(np.int32), right.astype(np.int32), scale, cosine), edges

    def _coefficients(
        self, items: Items, counts: Shorts, width: int
    ) -> tuple[Words, NDArray[np.int32], Floats]:
        """Row, column and value of every coefficient of the LP, in that order."""
        held, values = self._get.pointers(("SCIProwGetCols", "SCIProwGetVals"), items)
        value = self._get.join(values, counts, np.float64)
        held = self._get.join(held, counts, np.int64)
        at = self._get.wholes(("SCIPcolGetLPPos",), (address(held), len(held)))[0]
        row_of = np.repeat(np.arange(items[1]), counts)
        key = row_of * width + at
        if np.any(key[1:] < key[:-1]):
            order = np.argsort(key)
            at, value = at[order], value[order]
        return row_of, at, value
