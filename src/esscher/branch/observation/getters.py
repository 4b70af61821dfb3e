"""SCIP's getters, for many rows or columns at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.branch.observation.library import ScipLibrary, scip_library
from esscher.branch.observation.loops import Loops, compiled_loops

__all__ = [
    "COLUMN_REALS",
    "COLUMN_WHOLES",
    "ROW_REALS",
    "ROW_WHOLES",
    "Getters",
    "State",
    "address",
]

COLUMN_REALS = ("SCIPcolGetObj", "SCIPcolGetLb", "SCIPcolGetUb", "SCIPcolGetPrimsol")
COLUMN_WHOLES = ("SCIPcolGetIndex", "SCIPcolGetAge", "SCIPcolGetBasisStatus")
ROW_REALS = (
    "SCIProwGetLhs", "SCIProwGetRhs", "SCIProwGetConstant", "SCIProwGetNorm", "SCIProwGetDualsol",
)  # fmt: skip
ROW_WHOLES = ("SCIProwGetIndex", "SCIProwGetNLPNonz", "SCIProwGetAge")

_OF_SCIP = ("SCIPgetLPRows", "SCIPgetLPCols", "SCIPgetBestSol")
_COUNTS = ("SCIPgetNLPRows", "SCIPgetNLPCols", "SCIPgetNRuns")
_LISTED: tuple[tuple[str, ...], ...] = (
    COLUMN_REALS, COLUMN_WHOLES, ROW_REALS, ROW_WHOLES, _OF_SCIP, _COUNTS,
    ("SCIPgetColRedcost",), ("SCIPgetRowLPActivity",), ("SCIPgetSolVal",), ("SCIPvarGetAvgSol",),
    ("SCIPcolGetVar",), ("SCIPvarGetCol",), ("SCIPvarIsInLP",), ("SCIPcolGetLPPos",),
    ("SCIPvarGetType", "SCIPvarIsImpliedIntegral"), ("SCIProwGetCols", "SCIProwGetVals"),
)  # fmt: skip

Floats = NDArray[np.float64]
Words = NDArray[np.int64]
Shorts = NDArray[np.int32]
Items = tuple[int, int]
"""Address of an array of pointers, and their number."""


class State(NamedTuple):
    """An LP.

    Attributes:
        rows, columns: of it.
        best: address of the best solution, 0 without one.
        runs: of branch and bound, which begins anew at a restart.
    """

    rows: Items
    columns: Items
    best: int
    runs: int


def address(values: NDArray[Any]) -> int:
    """Where the values of an array stand."""
    return int(values.__array_interface__["data"][0])


class Getters:
    """Reads getters by name. Pointers are good while SCIP leaves its LP as it is.

    Arrays are good until the same names are read again: they are written over.

    Raises:
        MissingExtra: if pyscipopt or llvmlite is not installed.
        ConfigError: if SCIP's library is not found or known, or lacks a getter.
    """

    def __init__(self, library: ScipLibrary | None = None, loops: Loops | None = None) -> None:
        library = library or scip_library()
        self._loops = loops or compiled_loops()
        self._tables = {names: library.addresses(names) for names in _LISTED}
        self._places = {names: address(table) for names, table in self._tables.items()}
        self._kept: dict[tuple[str, ...], tuple[NDArray[Any], int]] = {}
        self._scip = np.zeros(1, dtype=np.int64)

    def state(self, scip: int) -> State:
        """Where the LP of a SCIP instance stands."""
        self._scip[0] = scip
        items = address(self._scip), 1
        rows, columns, best = self.pointers(_OF_SCIP, items)[:, 0].tolist()
        row_count, column_count, runs = self.wholes(_COUNTS, items)[:, 0].tolist()
        return State((rows, row_count), (columns, column_count), best, runs)

    def reals(self, names: tuple[str, ...], items: Items, *contexts: int) -> Floats:
        """[K, N] of getters that return numbers, with up to two contexts before the item."""
        loop = (self._loops.real, self._loops.real_within, self._loops.real_of)[len(contexts)]
        return self._read(loop, np.float64, names, items, contexts)

    def wholes(self, names: tuple[str, ...], items: Items) -> Shorts:
        """[K, N] of getters that return int or an enumeration."""
        return self._read(self._loops.whole, np.int32, names, items, ())

    def pointers(self, names: tuple[str, ...], items: Items) -> Words:
        """[K, N] of getters that return pointers."""
        return self._read(self._loops.pointer, np.int64, names, items, ())

    def join(self, blocks: Words, lengths: Shorts, kind: Any) -> NDArray[Any]:
        """What stands in blocks of 8 byte words, one after another; lengths in words."""
        joined = np.empty(int(lengths.sum()), dtype=kind)
        self._loops.join(address(blocks), address(lengths), len(lengths), address(joined))
        return joined

    def _read(
        self, loop: Any, kind: Any, names: tuple[str, ...], items: Items, contexts: tuple[int, ...]
    ) -> NDArray[Any]:
        place, count = items
        out, written = self._kept.get(names, (None, 0))
        if out is None or out.shape[1] != count:
            out = np.empty((len(names), count), dtype=kind)
            written = address(out)
            self._kept[names] = out, written
        loop(self._places[names], len(names), *contexts, place, count, written)
        return out
