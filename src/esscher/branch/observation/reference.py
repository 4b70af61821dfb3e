"""The LP of a node as a graph, value by value through PySCIPOpt: slow, and plain to check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["AGE_OFFSET", "LpGraph", "ReferenceReader"]

AGE_OFFSET = 5.0
"""Ages are divided by the number of LPs solved plus this."""

_TYPES = {"BINARY": 0, "INTEGER": 1, "IMPLINT": 2, "CONTINUOUS": 3}
_BASIS = {"lower": 0, "basic": 1, "upper": 2, "zero": 3}


class LpGraph(NamedTuple):
    """The fields of `Observation` that are of the LP, with the same names and shapes."""

    rows: NDArray[np.float32]
    columns: NDArray[np.float32]
    edge_row: NDArray[np.int32]
    edge_column: NDArray[np.int32]
    edge_value: NDArray[np.float32]


class ReferenceReader:
    """Reads the LP anew each time."""

    def begin(self, model: Any) -> None:
        """A solve begins: nothing is kept here."""

    def positions(self, variables: Sequence[Any]) -> NDArray[np.int32]:
        """[K] positions of variables among the columns of the LP, -1 of one that is not there."""
        found = [v.getCol().getLPPos() if v.isInLP() else -1 for v in variables]
        return np.array(found, dtype=np.int32)

    def read(self, model: Any) -> LpGraph:
        """The LP of the focus node, computed in float64."""
        columns = model.getLPColsData()
        norm = math.hypot(*(column.getObjCoeff() for column in columns)) or 1.0
        shown = [_column(model, column, norm) for column in columns]
        rows: list[list[float]] = []
        edges: list[tuple[int, int, float]] = []
        for row in model.getLPRowsData():
            terms = sorted(
                (column.getLPPos(), value, column.getObjCoeff())
                for column, value in zip(row.getCols(), row.getVals(), strict=True)
                if column.getLPPos() >= 0
            )
            length = row.getNorm() or 1.0
            for side, sign in ((row.getLhs(), -1.0), (row.getRhs(), 1.0)):
                if model.isInfinity(abs(side)):
                    continue
                product = sum(value * cost for _, value, cost in terms)
                edges += [(len(rows), at, sign * value / length) for at, value, _ in terms]
                rows.append(
                    [
                        sign * (side - row.getConstant()) / length,
                        sign * product / (length * norm),
                        float(model.isEQ(model.getRowLPActivity(row), side)),
                        sign * row.getDualsol() / (length * norm),
                        row.getAge() / (model.getNLPs() + AGE_OFFSET),
                    ]
                )
        return LpGraph(
            np.array(rows, dtype=np.float32).reshape(-1, 5),
            np.array(shown, dtype=np.float32).reshape(-1, 19),
            np.array([edge[0] for edge in edges], dtype=np.int32),
            np.array([edge[1] for edge in edges], dtype=np.int32),
            np.array([edge[2] for edge in edges], dtype=np.float32),
        )


def _column(model: Any, column: Any, norm: float) -> list[float]:
    variable = column.getVar()
    kind = _TYPES[variable.vtype()]
    if kind != 0 and variable.isImpliedIntegral():
        kind = 2
    low, high, value = column.getLb(), column.getUb(), column.getPrimsol()
    has_low, has_high = not model.isInfinity(abs(low)), not model.isInfinity(abs(high))
    incumbent = average = 0.0
    if model.getNSols() > 0:
        incumbent = _known(model, model.getSolVal(model.getBestSol(), variable))
        average = _known(model, variable.getAvgSol())
    basis = _BASIS[column.getBasisStatus()]
    return [
        column.getObjCoeff() / norm,
        *(float(kind == k) for k in range(4)),
        float(has_low),
        float(has_high),
        model.getColRedCost(column) / norm,
        value,
        0.0 if kind == 3 else model.feasFrac(value),
        float(has_low and model.isEQ(value, low)),
        float(has_high and model.isEQ(value, high)),
        column.getAge() / (model.getNLPs() + AGE_OFFSET),
        incumbent,
        average,
        *(float(basis == k) for k in range(4)),
    ]


def _known(model: Any, value: float) -> float:
    """SCIP marks a value that a solution leaves open by a huge number."""
    return 0.0 if model.isInfinity(abs(value)) else value
