"""What one policy did on one instance with one seed, and the file such rows are kept in."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

from esscher.errors import DataError
from esscher.kit.runs.files import json_ready, read_rows

__all__ = ["Journal", "Key", "Row"]

Key: TypeAlias = tuple[str, str, int]
_ENDED = ("optimal", "infeasible", "unbounded", "inforunbd")


@dataclass(frozen=True)
class Row:
    """A solve.

    Attributes:
        policy: its label.
        instance: its name.
        seed: of SCIP and the policy.
        status: SCIP's.
        objective: of the best solution, None without one.
        nodes: of the tree.
        fair_nodes: nodes + 2 · (cutoffs + domain reductions) of SCIP's own rules; None where they
            are not known.
        decisions: of the policy.
        lp_iterations: of the simplex method.
        seconds: of SCIP's clock; the time limit where it ended the solve.
        policy_seconds: of them in the policy.
    """

    policy: str
    instance: str
    seed: int
    status: str
    objective: float | None
    nodes: int
    fair_nodes: int | None
    decisions: int
    lp_iterations: int
    seconds: float
    policy_seconds: float

    @property
    def key(self) -> Key:
        """What was solved: policy, instance, seed."""
        return self.policy, self.instance, self.seed

    @property
    def ended(self) -> bool:
        """Whether the solve came to its end; else its numbers are censored: at least so much."""
        return self.status in _ENDED


class Journal:
    """Rows in a JSON Lines file that is only appended to, by any number of processes.

    A row is one write under a lock. What a killed process leaves of its last row is dropped.

    Args:
        path: the file; made where it does not exist.

    Raises:
        DataError: if it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.touch()
        except OSError as error:
            raise DataError(f"cannot keep rows in {path}: {error}") from error

    def read(self) -> dict[Key, Row]:
        """The rows by policy, instance and seed.

        Raises:
            DataError: if a whole line is no such row.
        """
        names = {field.name for field in fields(Row)}
        found: dict[Key, Row] = {}
        for values in read_rows(self.path):
            if set(values) != names:
                raise DataError(f"{self.path} holds a row that is no solve: {values!r:.80}")
            row = Row(**values)
            found[row.key] = row
        return found

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows, after dropping a torn last one.

        Raises:
            DataError: if the file cannot be written.
        """
        text = "".join(f"{json.dumps(json_ready(asdict(row)))}\n" for row in rows)
        try:
            with self.path.open("r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(_whole(file))
                file.truncate()
                file.write(text.encode())
        except OSError as error:
            raise DataError(f"cannot keep rows in {self.path}: {error}") from error

    def count(self) -> int:
        """Whole lines in the file."""
        return self.path.read_bytes().count(b"\n")


def _whole(file: Any) -> int:
    """Where the last whole line ends."""
    end = file.seek(0, os.SEEK_END)
    start, tail = end, b""
    while start > 0:
        start = max(0, start - 4096)
        file.seek(start)
        tail = file.read(4096)
        place = tail.rfind(b"\n")
        if place >= 0:
            return int(start + place + 1)
    return 0
