"""A program as MPS text, number by number and in its own order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from esscher.branch.milp import Milp
from esscher.errors import DataError

__all__ = ["mps_text"]


def mps_text(milp: Milp) -> str:
    """The program in free MPS format, columns x0, x1, … and rows r0, r1, ….

    What is read from it is the same program: numbers have all their digits (of a row with two
    finite sides, the distance of the sides is written, which may round the upper one), and the
    order is kept. A row without any finite side binds nothing and is not a row of what is read.

    Raises:
        DataError: if a lower bound or side exceeds its upper one; MPS cannot say so.
    """
    for what, low, high in (
        ("variable", milp.low, milp.high), ("row", milp.row_low, milp.row_high),
    ):  # fmt: skip
        crossed = np.flatnonzero(low > high)
        if len(crossed):
            k = crossed[0]
            raise DataError(
                f"{what} {k} of {milp.name} must be at least {low[k]:g} and at most {high[k]:g}: "
                "MPS cannot say so"
            )
    lines = [
        f"NAME {'_'.join(milp.name.split()) or 'milp'}", "OBJSENSE",
        f"    {'MAX' if milp.maximise else 'MIN'}", "ROWS", " N obj", *_rows(milp),
        "COLUMNS", *_columns(milp), "RHS", *_sides(milp), "RANGES", *_ranges(milp),
        "BOUNDS", *_bounds(milp), "ENDATA",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _rows(milp: Milp) -> Iterator[str]:
    for i, (low, high) in enumerate(_pairs(milp)):
        kind = "E" if low == high else "G" if np.isfinite(low) else "L"
        yield f" {kind if np.isfinite(low) or np.isfinite(high) else 'N'} r{i}"


def _columns(milp: Milp) -> Iterator[str]:
    columns = sparse.csc_array(milp.matrix, dtype=np.float64, copy=True)
    columns.sum_duplicates()
    starts, rows, data = columns.indptr.tolist(), columns.indices.tolist(), columns.data.tolist()
    within, markers = False, 0
    for j, (cost, whole) in enumerate(
        zip(milp.objective.tolist(), milp.integer.tolist(), strict=True)
    ):
        if whole != within:
            yield f"    MARKER{markers} 'MARKER' '{'INTORG' if whole else 'INTEND'}'"
            within, markers = whole, markers + 1
        yield f"    x{j} obj {cost!r}"
        for k in range(starts[j], starts[j + 1]):
            yield f"    x{j} r{rows[k]} {data[k]!r}"
    if within:
        yield f"    MARKER{markers} 'MARKER' 'INTEND'"


def _sides(milp: Milp) -> Iterator[str]:
    for i, (low, high) in enumerate(_pairs(milp)):
        side = low if np.isfinite(low) else high
        if side != 0 and np.isfinite(side):
            yield f"    rhs r{i} {side!r}"


def _ranges(milp: Milp) -> Iterator[str]:
    for i, (low, high) in enumerate(_pairs(milp)):
        if low < high and np.isfinite(low) and np.isfinite(high):
            yield f"    rng r{i} {high - low!r}"


def _bounds(milp: Milp) -> Iterator[str]:
    """Both bounds of every variable: what holds for one that is left out differs by reader."""
    for j, (low, high, whole) in enumerate(
        zip(milp.low.tolist(), milp.high.tolist(), milp.integer.tolist(), strict=True)
    ):
        if low == high:
            yield f" FX bnd x{j} {low!r}"
            continue
        if whole and low == 0 and high == 1:
            yield f" BV bnd x{j}"
            continue
        yield f" LO bnd x{j} {low!r}" if np.isfinite(low) else f" MI bnd x{j}"
        yield f" UP bnd x{j} {high!r}" if np.isfinite(high) else f" PL bnd x{j}"


def _pairs(milp: Milp) -> Iterator[tuple[float, float]]:
    return zip(milp.row_low.tolist(), milp.row_high.tolist(), strict=True)
