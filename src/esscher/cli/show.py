"""`esscher show`: the state and the numbers of runs, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esscher.errors import ConfigError
from esscher.kit.runs.record import Record
from esscher.kit.runs.text import estimate_parts

__all__ = ["show"]


def show(*runs: Path) -> dict[str, Any]:
    """Show the state and the numbers of runs; several are compared.

    Args:
        runs: run folders; all in ./runs by default.

    Raises:
        ConfigError: if a path is not a run folder, or none is given and ./runs holds none.
    """
    paths = list(runs) or sorted(path.parent for path in Path("runs").glob("[!.]*/config.toml"))
    if not paths:
        raise ConfigError("there is no run folder in ./runs; name one: esscher show RUN…")
    records = [Record(path) for path in paths]
    names = _names(paths)
    numbers = [_numbers(record) for record in records]
    quantities = list(dict.fromkeys(name for found in numbers for name in found))
    return {
        "runs": [_row(name, record) for name, record in zip(names, records, strict=True)],
        "numbers": [
            {"quantity": quantity}
            | {name: found.get(quantity) for name, found in zip(names, numbers, strict=True)}
            for quantity in quantities
        ],
    }


def _names(paths: list[Path]) -> list[str]:
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _row(name: str, record: Record) -> dict[str, Any]:
    rows, report = record.metrics(), record.path / "report.html"
    return {
        "run": name,
        "status": record.status(),
        "step": rows[-1]["step"] if rows else None,
        "report": str(report) if report.exists() else None,
    }


def _numbers(record: Record) -> dict[str, Any]:
    """The result, or the last metrics of a run that has none, as one level of names."""
    result = record.result()
    if result is not None:
        return _flat(result, "")
    rows = record.metrics()
    return {k: v for k, v in rows[-1].items() if k not in ("step", "time")} if rows else {}


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and estimate_parts(value) is None:
            found |= _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            found[f"{prefix}{name}"] = value
    return found
