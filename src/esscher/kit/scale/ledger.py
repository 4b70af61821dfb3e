"""Numbers by key in a file that is only ever appended to, by any number of processes."""

from __future__ import annotations

import fcntl
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from esscher.errors import DataError
from esscher.kit.scale.schedule import shown

__all__ = ["Ledger"]

_START = b'{"key": "'


class Ledger:
    """A JSON Lines file with a row {"key": …, "value": …} for every number.

    Every append is one write under a lock, so rows of several processes do not mix. What a killed
    process leaves of its last row is dropped with a warning.

    Args:
        path: the file; made, with its folder, at the first append.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_to = 0

    def read(self) -> dict[str, float]:
        """The rows that have come since the last call, by key.

        Raises:
            DataError: naming the first complete line that is no such row, or if the file cannot be
                read.
        """
        if not self.path.exists():
            return {}
        with self._open() as handle:
            return self._rest(handle)

    def append(self, rows: Mapping[str, float]) -> dict[str, float]:
        """Add rows; those that others have added in the meantime.

        Raises:
            DataError: if the file cannot be written.
        """
        text = "".join(json.dumps({"key": k, "value": v}) + "\n" for k, v in rows.items())
        with self._open() as handle:
            others = self._rest(handle)
            data = memoryview(text.encode())
            while data:
                data = data[os.write(handle, data) :]
            self._read_to = os.lseek(handle, 0, os.SEEK_CUR)
        return others

    @contextmanager
    def _open(self) -> Iterator[int]:
        """The locked file."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield handle
            finally:
                os.close(handle)
        except OSError as error:
            raise DataError(f"cannot keep values in {self.path}: {error}") from error

    def _rest(self, handle: int) -> dict[str, float]:
        size = os.fstat(handle).st_size
        if size < self._read_to:  # somebody has emptied it
            self._read_to = 0
        data = b""
        while part := os.pread(handle, size - self._read_to - len(data), self._read_to + len(data)):
            data += part
        whole, newline, torn = data.rpartition(b"\n")
        start, self._read_to = self._read_to, self._read_to + len(whole) + len(newline)
        rows = dict(self._row(line, start) for line in whole.split(b"\n") if line)
        if torn:
            self._drop(handle, torn)
        return rows

    def _drop(self, handle: int, torn: bytes) -> None:
        # The lock is held: whoever was writing this row is dead.
        if not torn.startswith(_START[: len(torn)]):
            raise DataError(self._foreign(torn))
        os.ftruncate(handle, self._read_to)
        warnings.warn(
            f"{self.path}: the last row was cut off, as by a process that was killed, and is "
            f"dropped: {shown(torn.decode('utf-8', 'replace'))}",
            stacklevel=2,
        )

    def _row(self, line: bytes, start: int) -> tuple[str, float]:
        try:
            row = json.loads(line)
            return str(row["key"]), float(row["value"])
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise DataError(self._foreign(line, start)) from error

    def _foreign(self, line: bytes, start: int = 0) -> str:
        after = f" after byte {start}" if start else ""
        return (
            f'{self.path}: expected lines {{"key": …, "value": …}}, got '
            f"{shown(line.decode('utf-8', 'replace'))}{after}; these are no remembered values, or "
            "damaged ones; name another file, or delete it"
        )
