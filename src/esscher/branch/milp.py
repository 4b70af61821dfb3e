"""A mixed-integer linear program as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
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
        DataError: if a number is NaN, a coefficient infinite, or a lower side or bound inf, or an
            upper one -inf.
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
            beyond = -np.inf if field.endswith("high") else np.inf
            if field != "objective" and bool((getattr(self, field) == beyond).any()):
                raise DataError(f"{field} of {self.name} holds {beyond}, which nothing satisfies")
        for field, values in (("objective", self.objective), ("matrix", self.matrix.data)):
            if not bool(np.isfinite(values).all()):
                raise DataError(f"{field} of {self.name} holds NaN or an infinity")

    def to_scip(self) -> Any:
        """A silent `pyscipopt.Model` of it, variables x0, x1, … and rows r0, r1, … in this order.

        Raises:
            MissingExtra: if pyscipopt is not installed.
            DataError: if a coefficient, or a bound that has to be reached, is what SCIP holds for
                infinite (1e20).
        """
        scip = require("pyscipopt", EXTRA)
        model = scip.Model(self.name)
        model.hideOutput()
        infinity = float(model.infinity())
        self._refuse_infinite(infinity)
        kinds = np.where(self.integer, "I", "C")
        kinds[self.integer & (self.low == 0) & (self.high == 1)] = "B"
        lists = (
            kinds.tolist(),
            np.maximum(self.low, -infinity).tolist(),
            np.minimum(self.high, infinity).tolist(),
            self.objective.tolist(),
        )
        variables = [
            model.addVar(f"x{j}", kind, low, high, cost)
            for j, (kind, low, high, cost) in enumerate(zip(*lists, strict=True))
        ]
        if self.maximise:
            model.setMaximize()
        rows = self._canonical()
        starts, columns, data = rows.indptr.tolist(), rows.indices.tolist(), rows.data.tolist()
        lows = np.maximum(self.row_low, -infinity).tolist()
        highs = np.minimum(self.row_high, infinity).tolist()
        for i, (low, high) in enumerate(zip(lows, highs, strict=True)):
            # An empty row that is filled: building sums of terms in Python takes four times longer.
            row = model.addCons((scip.Expr() >= low) <= high, f"r{i}")
            for k in range(starts[i], starts[i + 1]):
                model.addCoefLinear(row, variables[columns[k]], data[k])
        return model

    def to_highs(self) -> Any:
        """A silent `highspy.Highs` of it, to be run by `run()`: a second opinion on an optimum.

        Raises:
            MissingExtra: if highspy is not installed.
        """
        highs = require("highspy", EXTRA)
        rows = self._canonical()
        program = highs.HighsLp()
        program.num_row_, program.num_col_ = rows.shape
        program.sense_ = highs.ObjSense.kMaximize if self.maximise else highs.ObjSense.kMinimize
        program.col_cost_, program.col_lower_, program.col_upper_ = (
            self.objective, self.low, self.high,
        )  # fmt: skip
        program.row_lower_, program.row_upper_ = self.row_low, self.row_high
        program.a_matrix_.format_ = highs.MatrixFormat.kRowwise
        program.a_matrix_.start_ = rows.indptr
        program.a_matrix_.index_ = rows.indices
        program.a_matrix_.value_ = rows.data
        kinds = (highs.HighsVarType.kContinuous, highs.HighsVarType.kInteger)
        program.integrality_ = [kinds[whole] for whole in self.integer.tolist()]
        solver = _silent_highs(highs)
        solver.passModel(program)
        return solver

    def _canonical(self) -> sparse.csr_array:
        """The matrix with every entry once, in order and not zero, as floats."""
        rows = sparse.csr_array(self.matrix, dtype=np.float64, copy=True)
        rows.sum_duplicates()
        rows.eliminate_zeros()
        return rows

    def _refuse_infinite(self, infinity: float) -> None:
        for field, values in (("objective", self.objective), ("matrix", self.matrix.data)):
            if bool((np.abs(values) >= infinity).any()):
                raise DataError(
                    f"{field} of {self.name} holds {float(np.abs(values).max()):g}, and SCIP takes "
                    f"{infinity:g} and more for infinite; rescale it"
                )
        for field, values in (("low", self.low), ("high", -self.high)):
            if bool((values >= infinity).any()):
                raise DataError(
                    f"{field} of {self.name} leaves variable {int(values.argmax())} no finite value"
                )


def _silent_highs(highs: ModuleType) -> Any:
    """A `highspy.Highs` that prints nothing, not even the banner of a process's first one."""

    class Silent(highs.Highs):  # type: ignore[name-defined,misc]
        def enableCallbacks(self) -> None:  # noqa: N802 - called by the constructor, and prints
            self.silent()
            super().enableCallbacks()

    return Silent()
