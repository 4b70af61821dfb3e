"""Results as one JSON object or as tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from esscher.kit.runs.files import json_ready
from esscher.kit.runs.text import estimate_parts, format_value

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["render"]


def render(result: Mapping[str, object] | None, *, as_json: bool) -> None:
    """Print the result of a command on standard output.

    Args:
        result: what `json_ready` takes; None is no result.
        as_json: one line with one JSON object; else tables.

    Raises:
        NumericsError: if a number is NaN or infinite.
        DataError: if a part has no JSON form.
    """
    plain = json_ready(dict(result or {}), "result")
    if as_json:
        sys.stdout.write(json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()
    elif isinstance(plain, dict) and plain:
        _tables(plain)


def _tables(result: Mapping[str, object]) -> None:
    from rich.console import Console  # noqa: PLC0415 - not needed for JSON
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    pairs = {name: value for name, value in result.items() if not _is_nested(value)}
    if pairs:
        console.print(_grid([[name, format_value(value)] for name, value in pairs.items()]))
    for name, value in result.items():
        if _is_nested(value):
            console.print(Text(f"\n{name}", style="bold"))
            console.print(Padding(_nested(value), (0, 0, 0, 2)))


def _is_nested(value: object) -> bool:
    if isinstance(value, Mapping):
        return estimate_parts(value) is None and bool(value)
    return isinstance(value, list) and any(isinstance(item, Mapping) for item in value)


def _nested(value: object) -> Table:
    if isinstance(value, Mapping):
        return _grid([[str(name), _short(part)] for name, part in value.items()])
    rows = [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_short(row[name]) if name in row else "" for name in columns] for row in rows]
    return _grid(cells, columns)


def _short(value: object) -> str:
    if _is_nested(value):
        return json.dumps(value, ensure_ascii=False)
    return format_value(value)


def _grid(cells: Sequence[Sequence[str]], columns: Sequence[str] | None = None) -> Table:
    from rich.table import Table  # noqa: PLC0415 - not needed for JSON
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, show_header=columns is not None, padding=(0, 2, 0, 0))
    for column in columns or [""] * len(cells[0]):
        table.add_column(Text(column), overflow="fold")
    for row in cells:
        table.add_row(*[Text(cell) for cell in row])
    return table
