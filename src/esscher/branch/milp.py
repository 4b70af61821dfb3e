"""A mixed-integer linear program as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from esscher.errors import DataError, ShapeError
from esscher.kit.require import require

__all__ = ["Milp"]

EXTRA = "milp"


@dataclass(frozen=True)
class Milp:
    """min c'x subject to row_low <= A x <= row_high, low <= x <= high, some x_j whole.

    Attributes:
        objective: [n] c.
        matrix: [m, n] A, sparse by rows.
        row_low: [m] least activity, -inf for none.
        row_high: [m] greatest activity, inf for none.
        low: [n] least values, -inf for none.
        high: [n] greatest values, inf for none.
        integer: [n] bool, whether x_j is whole.
        maximise: max c'x instead.
        name: of the instance.

    Raises:
        ShapeError: if the sizes disagree.
        DataError: if a number is NaN, or a coefficient infinite.
    """

    objective: NDArray[np.float64]
    matrix: sparse.csr_array
    row_low: NDArray[np.float64]
    row_high: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    integer: NDArray[np.bool_]
    maximise: bool = False
    name: str = "milp"

    def __post_init__(self) -> None:
        m, n = self.matrix.shape
        wanted = {"objective": n, "row_low": m, "row_high": m, "low": n, "high": n, "integer": n}
        for field, size in wanted.items():
            shape = getattr(self, field).shape
            if shape != (size,):
                raise ShapeError(
                    f"{field} of {self.name} has shape {shape}, matrix wants ({size},)"
                )
        for field in ("objective", "row_low", "row_high", "low", "high"):
            if bool(np.isnan(getattr(self, field)).any()):
                raise DataError(f"{field} of {self.name} holds NaN")
        for field, values in (("objective", self.objective), ("matrix", self.matrix.data)):
            if not bool(np.isfinite(values).all()):
                raise DataError(f"{field} of {self.name} holds NaN or an infinity")

    def to_scip(self) -> Any:
        """A silent `pyscipopt.Model` of it, variables and rows in this order.

        Raises:
            MissingExtra: if pyscipopt is not installed.
        """
        scip = require("pyscipopt", EXTRA)
        model = scip.Model(self.name)
        model.hideOutput()
        infinity = model.infinity()
        kinds = np.where(self.integer, "I", "C")
        kinds[self.integer & (self.low == 0) & (self.high == 1)] = "B"
        variables = [
            model.addVar(f"x{j}", vtype=str(kind), lb=_finite(low), ub=_finite(high), obj=float(c))
            for j, (kind, low, high, c) in enumerate(
                zip(kinds, self.low, self.high, self.objective, strict=True)
            )
        ]
        if self.maximise:
            model.setMaximize()
        for i in range(self.matrix.shape[0]):
            start, stop = self.matrix.indptr[i : i + 2]
            terms = zip(self.matrix.indices[start:stop], self.matrix.data[start:stop], strict=True)
            total = scip.quicksum(float(a) * variables[j] for j, a in terms)
            low, high = max(self.row_low[i], -infinity), min(self.row_high[i], infinity)
            model.addCons((total >= float(low)) <= float(high), name=f"r{i}")
        return model


def _finite(bound: float) -> float | None:
    return float(bound) if np.isfinite(bound) else None
