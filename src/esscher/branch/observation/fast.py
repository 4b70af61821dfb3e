"""The LP of a node as a graph, read by compiled loops over SCIP's getters.

What is read here equals `ReferenceReader`, and is written for whole arrays. Coefficients, norms and
cosines stay what they are as long as the LP has the same rows and columns; they are read again when
that changes, as where cuts come and go. Rows and columns are told apart by SCIP's own numbers,
which it does not use twice in a solve, and not by their addresses, which it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esscher.branch.observation.getters import (
    COLUMN_REALS,
    COLUMN_WHOLES,
    ROW_REALS,
    ROW_WHOLES,
    Floats,
    Getters,
    Items,
    Shorts,
    Words,
)
from esscher.branch.observation.library import address_of
from esscher.branch.observation.reference import AGE_OFFSET, LpGraph

__all__ = ["FastReader"]

_CONTINUOUS = 3
Edges = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


@dataclass(frozen=True)
class _Columns:
    """What stays while the LP has the same columns with the same costs."""

    index: Shorts
    cost: Floats
    norm: float
    variables: Words
    continuous: NDArray[np.bool_]
    template: NDArray[np.float32]


@dataclass(frozen=True)
class _Rows:
    """What stays while the LP has the same rows and columns; R sides of m rows.

    Attributes:
        whole: [2, m] number of each row in SCIP, and its entries in the LP.
        norm: [m] as SCIP has it.
        finite: [m, 2] whether there is a left-hand and a right-hand side.
        row: [R] the row of each side.
        scale: [R] sign over norm.
        cosine: [R] signed.
    """

    columns: _Columns
    whole: Shorts
    norm: Floats
    finite: NDArray[np.bool_]
    row: Words
    scale: Floats
    cosine: Floats
    edges: Edges


@dataclass(frozen=True)
class _Limits:
    """Tolerances of SCIP, which stay for the solve."""

    infinity: float
    epsilon: float
    feasible: float


class FastReader:
    """Reads what has changed since the last node.

    Raises:
        MissingExtra: if pyscipopt or llvmlite is not installed.
        ConfigError: if the SCIP library is not found or known, or lacks a function.
    """

    def __init__(self, getters: Getters | None = None) -> None:
        self._get = getters or Getters()
        self._columns: _Columns | None = None
        self._rows: _Rows | None = None
        self._limits = _Limits(1e20, 1e-9, 1e-6)

    def begin(self, model: Any) -> None:
        """A solve begins: nothing of the last one is used any more."""
        self._columns = self._rows = None
        self._limits = _Limits(model.infinity(), model.epsilon(), model.feastol())

    def read(self, model: Any) -> LpGraph:
        """The LP of the focus node, computed in float64."""
        scip = address_of(model)
        age = 1 / (model.getNLPs() + AGE_OFFSET)
        single = self._get.single
        items = single("SCIPgetLPCols", scip), single("SCIPgetNLPCols", scip)
        columns, shown = self._read_columns(scip, items, age)
        items = single("SCIPgetLPRows", scip), single("SCIPgetNLPRows", scip)
        rows, sides = self._read_rows(scip, items, age, columns)
        return LpGraph(sides, shown, *rows.edges)

    def _read_columns(
        self, scip: int, items: Items, age: float
    ) -> tuple[_Columns, NDArray[np.float32]]:
        get, limits = self._get, self._limits
        cost, low, high, value = get.reals(COLUMN_REALS, items)
        index, ages, basis = get.wholes(COLUMN_WHOLES, items)
        known = self._columns
        if not (known and np.array_equal(known.index, index) and np.array_equal(known.cost, cost)):
            known = self._columns = self._new_columns(items, index, cost)
        shown = known.template.copy()
        has_low, has_high = np.abs(low) < limits.infinity, np.abs(high) < limits.infinity
        shown[:, 5], shown[:, 6] = has_low, has_high
        shown[:, 7] = get.reals(("SCIPgetColRedcost",), items, scip)[0] / known.norm
        shown[:, 8] = value
        fraction = value - np.floor(value + limits.feasible)
        fraction[known.continuous] = 0
        shown[:, 9] = fraction
        shown[:, 10] = has_low & (np.abs(value - low) <= limits.epsilon)
        shown[:, 11] = has_high & (np.abs(value - high) <= limits.epsilon)
        shown[:, 12] = ages * age
        best = get.single("SCIPgetBestSol", scip)
        if best:
            variables = known.variables.ctypes.data, items[1]
            shown[:, 13] = self._known(get.reals(("SCIPgetSolVal",), variables, scip, best)[0])
            shown[:, 14] = self._known(get.reals(("SCIPvarGetAvgSol",), variables)[0])
        shown[np.arange(items[1]), 15 + basis] = 1
        return known, shown

    def _known(self, values: Floats) -> Floats:
        values[np.abs(values) >= self._limits.infinity] = 0
        return values

    def _new_columns(self, items: Items, index: Shorts, cost: Floats) -> _Columns:
        variables = self._get.pointers(("SCIPcolGetVar",), items)[0]
        kinds = ("SCIPvarGetType", "SCIPvarIsImpliedIntegral")
        kind, implied = self._get.wholes(kinds, (variables.ctypes.data, items[1]))
        kind[(implied != 0) & (kind != 0)] = 2
        norm = float(np.linalg.norm(cost)) or 1.0
        template = np.zeros((items[1], 19), dtype=np.float32)
        template[:, 0] = cost / norm
        template[np.arange(items[1]), 1 + kind] = 1
        return _Columns(index, cost, norm, variables, kind == _CONTINUOUS, template)

    def _read_rows(
        self, scip: int, items: Items, age: float, columns: _Columns
    ) -> tuple[_Rows, NDArray[np.float32]]:
        get, limits = self._get, self._limits
        low, high, constant, norm, dual = get.reals(ROW_REALS, items)
        whole = get.wholes(ROW_WHOLES, items)
        limit = np.column_stack((low, high))
        finite = np.abs(limit) < limits.infinity
        known = self._rows
        if not (
            known
            and known.columns is columns
            and np.array_equal(known.whole, whole[:2])
            and np.array_equal(known.norm, norm)
            and np.array_equal(known.finite, finite)
        ):
            known = self._rows = self._new_rows(items, columns, whole[:2], norm, finite)
        row, scale, limit = known.row, known.scale, limit[finite]
        activity = get.reals(("SCIPgetRowLPActivity",), items, scip)[0]
        sides = np.empty((len(row), 5), dtype=np.float32)
        sides[:, 0] = (limit - constant[row]) * scale
        sides[:, 1] = known.cosine
        sides[:, 2] = np.abs(activity[row] - limit) <= limits.epsilon
        sides[:, 3] = dual[row] * scale / columns.norm
        sides[:, 4] = whole[2][row] * age
        return known, sides

    def _new_rows(
        self,
        items: Items,
        columns: _Columns,
        whole: Shorts,
        norm: Floats,
        finite: NDArray[np.bool_],
    ) -> _Rows:
        counts = whole[1]
        row_of, at, value = self._coefficients(items, counts, len(columns.index))
        product = np.bincount(row_of, value * columns.cost[at], minlength=items[1])
        row, right = np.nonzero(finite)
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
        return _Rows(columns, whole, norm, finite, row, scale, cosine, edges)

    def _coefficients(
        self, items: Items, counts: Shorts, width: int
    ) -> tuple[Words, NDArray[np.int32], Floats]:
        """Row, column and value of every coefficient of the LP, in that order."""
        held, values = self._get.pointers(("SCIProwGetCols", "SCIProwGetVals"), items)
        value = self._get.join(values, counts, np.float64)
        held = self._get.join(held, counts, np.int64)
        at = self._get.wholes(("SCIPcolGetLPPos",), (held.ctypes.data, len(held)))[0]
        row_of = np.repeat(np.arange(items[1]), counts)
        key = row_of * width + at
        if np.any(key[1:] < key[:-1]):
            order = np.argsort(key)
            at, value = at[order], value[order]
        return row_of, at, value
