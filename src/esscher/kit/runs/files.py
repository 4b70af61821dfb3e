"""Files that are either whole or not there, and rows of JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from esscher.errors import DataError, NumericsError

__all__ = [
    "Json",
    "json_ready",
    "read_json",
    "read_rows",
    "sync_folder",
    "write_atomic",
    "write_json",
]

Json: TypeAlias = dict[str, Any] | list[Any] | str | int | float | bool | None


def json_ready(value: object, where: str = "value") -> Json:
    """The value as plain JSON types.

    Mappings, sequences, paths, numpy and torch scalars or arrays, and objects with `to_json()`
    are accepted.

    Args:
        value: what is to be written.
        where: its name, for messages.

    Raises:
        NumericsError: if a number is NaN or infinite; None stands for "not available".
        DataError: if a part has no JSON form.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NumericsError(f"{where} is {value}; it must be finite (None where there is none)")
        return float(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(k): json_ready(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [json_ready(item, f"{where}[{i}]") for i, item in enumerate(items)]
    for method in ("to_json", "tolist", "__fspath__"):
        if hasattr(value, method):
            return json_ready(getattr(value, method)(), where)
    raise DataError(f"{where} is a {type(value).__name__}, which has no JSON form")


def write_atomic(path: Path, text: str) -> None:
    """Replace a file by new text, so that a reader sees the old or the new one, never a part.

    Raises:
        OSError: if it cannot be written; the old file is then untouched.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: object) -> None:
    """Replace a file by indented JSON of `json_ready(value)`, atomically."""
    text = json.dumps(json_ready(value, path.stem), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, text + "\n")


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        DataError: if the file is missing, unreadable or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} must hold a JSON object, it holds a {type(value).__name__}")
    return value


def read_rows(
    path: Path, keep: Callable[[dict[str, Any]], bool] | None = None
) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, [] where there is no file.

    A last line without its newline was cut off by a crash and is skipped.

    Args:
        path: the file.
        keep: which rows to return; all by default.

    Raises:
        DataError: if a complete line is not a JSON object.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number} is not JSON: {line[:80]!r}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number} is not a JSON object: {line[:80]!r}")
        if keep is None or keep(row):
            rows.append(row)
    return rows
