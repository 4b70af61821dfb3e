"""Instances in files: JSON, or a long table with a row per value of a box."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esscher.errors import DataError
from esscher.kit.data.table import Table, read_table, write_table
from esscher.kit.runs.files import read_json
from esscher.pandora.box import Box
from esscher.pandora.instance import PandoraInstance

__all__ = ["read_instance", "read_scenarios", "write_instance"]

COLUMNS = ("box", "value", "prob", "cost")


def read_instance(path: Path) -> PandoraInstance:
    """An instance from a file.

    `.json` holds {"outside": 0, "boxes": [{"name", "cost", "values", "probs"}]}, anything else a
    table with the columns box, value, prob and cost, whose outside option is 0.

    Raises:
        DataError: if the file cannot be read or a cell is no number; the box is named.
        ConfigError: if a box is not valid; it is named.
    """
    if path.suffix.lower() == ".json":
        return PandoraInstance.from_dict(read_json(path))
    return PandoraInstance(_boxes(read_table(path)))


def write_instance(path: Path, instance: PandoraInstance) -> None:
    """Write a file that `read_instance` reads.

    Raises:
        DataError: if it cannot be written, or a table cannot say what the instance holds: another
            outside option than 0, or obligatory inspection.
    """
    if path.suffix.lower() == ".json":
        text = json.dumps(instance.to_dict(), indent=1, allow_nan=False)
        try:
            path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot write {path}: {error}") from error
        return
    if instance.outside != 0 or instance.inspection == "obligatory":
        raise DataError(
            f"{path}: a table holds boxes alone, not an outside option of {instance.outside:g} or "
            f"{instance.inspection} inspection; write a .json file"
        )
    write_table(path, COLUMNS, _rows(instance))


def read_scenarios(path: Path, instance: PandoraInstance) -> NDArray[np.float64]:
    """[n, boxes] values of all boxes in each scenario, from a table with a column per box.

    Raises:
        DataError: if a box has no column, or a cell is no finite number.
    """
    return read_table(path).numbers(instance.names)


def _rows(instance: PandoraInstance) -> Iterator[tuple[object, ...]]:
    for box in instance.boxes:
        for value, prob in zip(box.values.tolist(), box.probs.tolist(), strict=True):
            yield box.name, value, prob, box.cost


def _boxes(table: Table) -> list[Box]:
    for column in COLUMNS:
        if column not in table.names:
            table.text(column)  # raises, with a hint
    places = [table.names.index(column) for column in COLUMNS]
    groups: dict[str, list[tuple[float, ...]]] = {}
    names = table.text("box").tolist()
    for number, (name, row) in enumerate(zip(names, table.rows, strict=True), 1):
        cells = [
            _number(row[place], f"{table.path}: box {name!r}, {column} in row {number}")
            for place, column in zip(places[1:], COLUMNS[1:], strict=True)
        ]
        groups.setdefault(name, []).append(tuple(cells))
    return [_box(name, rows) for name, rows in groups.items()]


def _box(name: str, rows: list[tuple[float, ...]]) -> Box:
    values, probs, costs = zip(*rows, strict=True)
    if len(set(costs)) > 1:
        raise DataError(
            f"box {name!r} costs {min(costs):g} in one row and {max(costs):g} in another; all its "
            "rows must say the same"
        )
    return Box(values, probs, costs[0], name)


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where} must be a finite number, got {cell!r}")
    return value
