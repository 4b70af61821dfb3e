"""SCIP's getters, for many rows or columns at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.branch.observation.library import ScipLibrary, scip_library
from esscher.branch.observation.loops import Loops, compiled_loops
from esscher.branch.observation.program import Place, Program, Step, address

__all__ = ["Floats", "Getters", "Items", "Lp", "Shorts", "Words"]

_OF_SCIP = ("SCIPgetLPRows", "SCIPgetLPCols", "SCIPgetBestSol")
_COUNTS = ("SCIPgetNLPRows", "SCIPgetNLPCols", "SCIPgetNRuns")
_COLUMN_REALS = ("SCIPcolGetObj", "SCIPcolGetLb", "SCIPcolGetUb", "SCIPcolGetPrimsol")
_COLUMN_WHOLES = ("SCIPcolGetIndex", "SCIPcolGetAge", "SCIPcolGetBasisStatus")
_REDUCED_COST = ("SCIPgetColRedcost",)
_ROW_REALS = (
    "SCIProwGetLhs", "SCIProwGetRhs", "SCIProwGetConstant", "SCIProwGetNorm", "SCIProwGetDualsol",
)  # fmt: skip
_ROW_WHOLES = ("SCIProwGetIndex", "SCIProwGetNLPNonz", "SCIProwGetAge")
_ACTIVITY = ("SCIPgetRowLPActivity",)
_SOLUTION_VALUE, _AVERAGE = ("SCIPgetSolVal",), ("SCIPvarGetAvgSol",)
_LISTED: tuple[tuple[str, ...], ...] = (
    _OF_SCIP, _COUNTS, _COLUMN_REALS, _COLUMN_WHOLES, _REDUCED_COST, _ROW_REALS, _ROW_WHOLES,
    _ACTIVITY, _SOLUTION_VALUE, _AVERAGE, ("SCIPcolGetVar",), ("SCIPcolGetLPPos",),
    ("SCIPvarGetType", "SCIPvarIsImpliedIntegral"), ("SCIProwGetCols", "SCIProwGetVals"),
)  # fmt: skip

Floats = NDArray[np.float64]
Words = NDArray[np.int64]
Shorts = NDArray[np.int32]
Items = tuple[int, int]
"""Address of an array of pointers, and their number."""


class Lp(NamedTuple):
    """The LP of a node, of n columns and m rows.

    Attributes:
        columns, rows: of it.
        best: address of the best solution, 0 without one.
        runs: of branch and bound, which begins anew at a restart.
        column_reals: [4, n] cost, bounds, value.
        column_wholes: [3, n] number in SCIP, age, basis.
        reduced_cost: [1, n].
        row_reals: [5, m] sides, constant, norm, dual.
        row_wholes: [3, m] number in SCIP, entries in the LP, age.
        activity: [1, m].
    """

    columns: Items
    rows: Items
    best: int
    runs: int
    column_reals: Floats
    column_wholes: Shorts
    reduced_cost: Floats
    row_reals: Floats
    row_wholes: Shorts
    activity: Floats


class Getters:
    """Reads getters. Pointers are good while SCIP leaves its LP as it is.

    Arrays of an LP and of solutions are good until the next are read: they are written over.

    Raises:
        MissingExtra: if pyscipopt or llvmlite is not installed.
        ConfigError: if SCIP's library is not found or known, or lacks a getter.
    """

    def __init__(self, library: ScipLibrary | None = None, loops: Loops | None = None) -> None:
        library = library or scip_library()
        self._loops = loops or compiled_loops()
        self._tables = {names: library.addresses(names) for names in _LISTED}
        self._scip, self._best, self._variables = (np.zeros(1, np.int64) for _ in range(3))
        self._variable_count = np.zeros(1, np.int32)
        self._lp, self._solutions = self._lp_program(), self._solutions_program()

    def lp(self, scip: int) -> Lp:
        """The LP of a SCIP instance."""
        self._scip[0] = scip
        self._lp.run()
        pointers, counts, *values = self._lp.found
        rows, columns, best = pointers[:, 0].tolist()
        row_count, column_count, runs = counts[:, 0].tolist()
        return Lp((columns, column_count), (rows, row_count), best, runs, *values)

    def solutions(self, scip: int, best: int, variables: Items) -> tuple[Floats, Floats]:
        """[1, N] each of variables: in the best solution, and on average in all that were found."""
        self._scip[0], self._best[0] = scip, best
        self._variables[0], self._variable_count[0] = variables
        self._solutions.run()
        values, average = self._solutions.found
        return values, average

    def wholes(self, names: tuple[str, ...], items: Items) -> Shorts:
        """[K, N] of getters that return int or an enumeration."""
        return self._read(self._loops.whole, np.int32, names, items)

    def pointers(self, names: tuple[str, ...], items: Items) -> Words:
        """[K, N] of getters that return pointers."""
        return self._read(self._loops.pointer, np.int64, names, items)

    def join(self, blocks: Words, lengths: Shorts, kind: Any) -> NDArray[Any]:
        """What stands in blocks of 8 byte words, one after another; lengths in words."""
        joined = np.empty(int(lengths.sum()), dtype=kind)
        self._loops.join(address(blocks), address(lengths), len(lengths), address(joined))
        return joined

    def _read(self, loop: Any, kind: Any, names: tuple[str, ...], items: Items) -> NDArray[Any]:
        table, (place, count) = self._tables[names], items
        out = np.empty((len(table), count), dtype=kind)
        loop(address(table), len(table), place, count, address(out))
        return out

    def _lp_program(self) -> Program:
        program, scip = Program(self._loops), Place(self._scip)
        only = Place(np.array([address(self._scip)])), Place(np.ones(1, np.int32))
        pointers = program.add(self._step("pointer", _OF_SCIP, *only))
        counts = program.add(self._step("whole", _COUNTS, *only))
        rows, columns = ((Place(pointers, k), Place(counts, k)) for k in (0, 1))
        program.add(self._step("real", _COLUMN_REALS, *columns))
        program.add(self._step("whole", _COLUMN_WHOLES, *columns))
        program.add(self._step("real_within", _REDUCED_COST, *columns, scip))
        program.add(self._step("real", _ROW_REALS, *rows))
        program.add(self._step("whole", _ROW_WHOLES, *rows))
        program.add(self._step("real_within", _ACTIVITY, *rows, scip))
        return program

    def _solutions_program(self) -> Program:
        program = Program(self._loops)
        variables = Place(self._variables), Place(self._variable_count)
        within = Place(self._scip), Place(self._best)
        program.add(self._step("real_of", _SOLUTION_VALUE, *variables, *within))
        program.add(self._step("real", _AVERAGE, *variables))
        return program

    def _step(
        self, kind: str, names: tuple[str, ...], items: Place, length: Place, *contexts: Place
    ) -> Step:
        return Step(kind, self._tables[names], items, length, contexts)
