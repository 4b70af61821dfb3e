"""Rows that need not fit into memory: arrays on disk and Parquet files, read by chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from esscher.errors import DataError, ShapeError
from esscher.kit.require import require
from esscher.novelty.niw import Array, Index

__all__ = ["ArraySource", "Minibatches", "ParquetSource", "Source", "blocks", "open_source"]

CHUNK = 256
"""Rows of an array read at once; many such chunks from all over the array make a minibatch."""


class Source(Protocol):
    """Rows in chunks.

    Attributes:
        bounds: [n + 1] number of the first row of each chunk, and M.
        dim: p.
    """

    bounds: Index
    dim: int

    def __len__(self) -> int:
        """M."""

    def read(self, chunk: int) -> Array:
        """[b, p] finite rows of a chunk.

        Raises:
            DataError: naming the first row that holds NaN or an infinite value.
        """


class ArraySource:
    """Anything with a length and slices: an array, a memory map.

    Args:
        y: [M, p].
        chunk: rows read at once, >= 1.

    Raises:
        DataError: if there are no rows.
        ShapeError: if a slice is not [b, p].
    """

    def __init__(self, y: Any, chunk: int = CHUNK) -> None:
        self._y = y
        if not len(y):
            raise DataError("the batch must have at least one row, got none")
        first = np.asarray(y[:1])
        if first.ndim != 2:
            raise ShapeError(f"rows must be [M, p], got slices of shape {first.shape}")
        self.dim = int(first.shape[1])
        self.bounds: Index = np.append(np.arange(0, len(y), chunk), len(y)).astype(np.int64)

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def read(self, chunk: int) -> Array:
        """[b, p] finite rows of a chunk."""
        start, stop = int(self.bounds[chunk]), int(self.bounds[chunk + 1])
        return _finite(np.array(self._y[start:stop], dtype=np.float64), start)


class ParquetSource:
    """A Parquet file by row groups.

    Args:
        path: the file.
        columns: the features in their order; None for all columns.

    Raises:
        DataError: if the file cannot be read, has no rows, or lacks a column.
    """

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        parquet = require("pyarrow.parquet", extra="parquet")
        self._path = path
        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        present = self._file.schema_arrow.names
        self._columns = list(present if columns is None else columns)
        missing = [name for name in self._columns if name not in present]
        if missing:
            raise DataError(f"{path} has no column {missing[0]!r}; it has: {', '.join(present)}")
        meta = self._file.metadata
        sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        if not sum(sizes):
            raise DataError(f"{path} has no rows")
        self.dim = len(self._columns)
        self.bounds: Index = np.cumsum([0, *sizes]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def read(self, chunk: int) -> Array:
        """[b, p] finite rows of a row group."""
        table = self._file.read_row_group(chunk, columns=self._columns)
        try:
            found = [table.column(name).cast("float64").to_numpy() for name in self._columns]
        except ValueError as error:
            raise DataError(f"{self._path} holds columns that are no numbers: {error}") from error
        return _finite(np.stack(found, 1), int(self.bounds[chunk]))


class _Scaled:
    """Rows of another source, shifted and divided column by column."""

    def __init__(self, source: Source, centre: Array, unit: Array) -> None:
        self._source, self._centre, self._unit = source, centre, unit
        self.bounds, self.dim = source.bounds, source.dim

    def __len__(self) -> int:
        return len(self._source)

    def read(self, chunk: int) -> Array:
        return (self._source.read(chunk) - self._centre) / self._unit


def open_source(
    data: Any,
    *,
    columns: Sequence[str] | None = None,
    centre: Array | None = None,
    unit: Array | None = None,
) -> Source:
    """Rows of an array, a .npy or a Parquet file, read as they are needed.

    Args:
        data: anything with a length and slices, a path, or a source already.
        columns: of a Parquet file, the features in their order; None for all.
        centre: [p] subtracted from every row; None for nothing.
        unit: [p] by which rows are divided then; None for ones.

    Raises:
        DataError: if the file cannot be read or there are no rows.
    """
    source: Source
    if isinstance(data, (str, Path)):
        path = Path(data)
        if path.suffix.lower() in (".parquet", ".pq"):
            source = ParquetSource(path, columns)
        else:
            source = ArraySource(_mapped(path))
    elif hasattr(data, "bounds") and hasattr(data, "read"):
        source = data
    else:
        source = ArraySource(data)
    if centre is None and unit is None:
        return source
    ones = np.ones(source.dim)
    return _Scaled(source, 0.0 * ones if centre is None else centre, ones if unit is None else unit)


def _mapped(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read {path} as .npy or Parquet, which can be read by parts: {error}"
        ) from error


def _finite(rows: Array, start: int) -> Array:
    if not bool(np.isfinite(rows).all()):
        at, column = np.argwhere(~np.isfinite(rows))[0].tolist()
        raise DataError(
            f"row {start + at} of the batch holds {rows[at, column]} in column {column}; leave "
            "such rows out or fill them in"
        )
    return rows


def blocks(source: Source, rows: int) -> Iterator[tuple[int, Array]]:
    """All rows in their order, at most so many at a time, with the number of the first."""
    held: list[Array] = []
    start = count = 0
    last = len(source.bounds) - 2
    for chunk in range(last + 1):
        held.append(source.read(chunk))
        count += len(held[-1])
        if count < rows and chunk < last:
            continue
        whole = np.concatenate(held) if len(held) > 1 else held[0]
        whole_blocks = count if chunk == last else count - count % rows
        for at in range(0, whole_blocks, rows):
            yield start + at, whole[at : min(at + rows, whole_blocks)]
        held, start = [whole[whole_blocks:]], start + whole_blocks
        count -= whole_blocks


class Minibatches:
    """Minibatches whatever the order on disk: chunks at random, then rows at random among many.

    Which rows the n-th minibatch of an epoch holds depends on the seed, the epoch and n only.

    Args:
        source: the rows.
        batch: rows of a minibatch, about.
        pool: rows held at once, among which they are shuffled; at least one chunk.
        seed: of the shuffles.
    """

    def __init__(self, source: Source, *, batch: int, pool: int, seed: int) -> None:
        self._source, self._batch, self._pool, self._seed = source, batch, pool, seed
        self._plan: tuple[int, list[Index], Index] = (-1, [], np.empty(0, np.int64))
        self._held: tuple[tuple[int, int], list[Array]] = ((-1, -1), [])

    def count(self, epoch: int) -> int:
        """Minibatches of an epoch."""
        return int(self._planned(epoch)[1].sum())

    def rows(self, epoch: int, number: int) -> Array:
        """[b, p] of a minibatch; all of an epoch together are all rows, each once."""
        pools, counts = self._planned(epoch)
        pool = int(np.searchsorted(np.cumsum(counts), number, side="right"))
        if self._held[0] != (epoch, pool):
            rows = np.concatenate([self._source.read(int(chunk)) for chunk in pools[pool]])
            rng = np.random.default_rng([self._seed, epoch, pool])
            parts = np.array_split(rng.permutation(len(rows)), int(counts[pool]))
            self._held = ((epoch, pool), [rows[part] for part in parts])
        return self._held[1][number - int(counts[:pool].sum())]

    def _planned(self, epoch: int) -> tuple[list[Index], Index]:
        """Chunks of each pool, and how many minibatches it makes."""
        if self._plan[0] != epoch:
            sizes = np.diff(self._source.bounds)
            order = np.random.default_rng([self._seed, epoch]).permutation(len(sizes))
            # Pools of about equal size: none is a small rest of which little is learnt.
            n = max(1, min(len(sizes), round(len(self._source) / self._pool)))
            ends = np.cumsum(sizes[order])
            cuts = np.searchsorted(ends, len(self._source) * np.arange(1, n) / n)
            pools = [pool.astype(np.int64) for pool in np.split(order, cuts) if len(pool)]
            held = np.array([int(sizes[pool].sum()) for pool in pools])
            self._plan = (epoch, pools, np.maximum(1, np.rint(held / self._batch)).astype(np.int64))
        return self._plan[1], self._plan[2]
