"""Tables of named columns from CSV and Parquet files."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esscher.errors import DataError
from esscher.kit.require import require

__all__ = ["Table", "read_table", "write_table"]


@dataclass(frozen=True)
class Table:
    """Rows of text cells under named columns.

    Attributes:
        path: where it came from, for messages.
        names: the columns in order.
        rows: cells as text, one list per row.
    """

    path: Path
    names: tuple[str, ...]
    rows: Sequence[Sequence[str]]

    def text(self, name: str) -> NDArray[np.str_]:
        """[M] cells of a column.

        Raises:
            DataError: if there is no such column, or a cell is empty.
        """
        place = self._place(name)
        cells = [row[place] for row in self.rows]
        if "" in cells:
            raise DataError(f"{self.path}: {name!r} is empty in row {cells.index('') + 1}")
        return np.array(cells)

    def numbers(self, names: Sequence[str]) -> NDArray[np.float64]:
        """[M, len(names)] columns of finite numbers.

        Raises:
            DataError: naming the first cell that is none.
        """
        places = [self._place(name) for name in names]
        out = np.empty((len(self.rows), len(places)))
        for i, row in enumerate(self.rows):
            for k, place in enumerate(places):
                out[i, k] = self._number(row[place], names[k], i)
        return out

    def _number(self, cell: str, name: str, row: int) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value):
            raise DataError(
                f"{self.path}: column {name!r} holds {cell!r} in row {row + 1}, which is no finite "
                "number; leave such columns or rows out"
            )
        return value

    def _place(self, name: str) -> int:
        if name not in self.names:
            near = difflib.get_close_matches(name, self.names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(f"{self.path} has no column {name!r}{hint} It has: {self._shown()}")
        return self.names.index(name)

    def _shown(self) -> str:
        return ", ".join(self.names[:12]) + (" …" if len(self.names) > 12 else "")


def read_table(path: Path) -> Table:
    """Read a file by its ending: .parquet, or .csv and anything else as comma-separated text.

    Raises:
        DataError: if it cannot be read, has no header, no rows, rows of unequal length or two
            columns of one name.
        MissingExtra: for Parquet, if pyarrow is not installed.
    """
    table = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    doubled = sorted({name for name in table.names if table.names.count(name) > 1})
    if doubled:
        raise DataError(f"{path} has several columns called {doubled[0]!r}")
    if not table.rows:
        raise DataError(f"{path} has a header and no rows")
    return table


def _csv(path: Path) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not lines:
        raise DataError(f"{path} is empty; the first line must name the columns")
    names, rows = lines[0], lines[1:]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise DataError(
                f"{path}: row {number} has {len(row)} cells, the header names {len(names)} columns"
            )
    return Table(path, tuple(name.strip() for name in names), rows)


def _parquet(path: Path) -> Table:
    parquet = require("pyarrow.parquet", extra="parquet")
    try:
        found = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    columns = [column.to_pylist() for column in found.columns]
    rows = [
        ["" if cell is None else str(cell) for cell in row] for row in zip(*columns, strict=True)
    ]
    return Table(path, tuple(found.column_names), rows)


def write_table(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a file by its ending, as `read_table` reads it; CSV text in UTF-8.

    Raises:
        DataError: if it cannot be written.
        MissingExtra: for Parquet, if pyarrow is not installed.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            arrow = require("pyarrow", extra="parquet")
            columns = dict(zip(names, zip(*rows, strict=True), strict=True))
            require("pyarrow.parquet", extra="parquet").write_table(arrow.table(columns), path)
            return
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(rows)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}") from error
