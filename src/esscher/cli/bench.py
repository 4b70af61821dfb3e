"""`esscher bench`: headline numbers reproduced and held against what is expected."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import esscher
from esscher.errors import ConfigError
from esscher.kit.runs.files import read_json
from esscher.kit.runs.output import Output
from esscher.kit.runs.text import estimate_parts
from esscher.kit.runs.typed import nearest

__all__ = ["bench"]


def bench(name: str | None = None, *, quick: bool = False, output: Output) -> dict[str, Any]:
    """Run a benchmark of this checkout, or all of them.

    A benchmark is `benchmarks/NAME.py` with `run(quick: bool, output: Output) -> dict` from
    quantity to number or estimate; `benchmarks/expected.json` holds, by name, "quick" or "full" and
    quantity, the expected "value" and its "tolerance".

    Args:
        name: the benchmark.
        quick: a smaller version of minutes.
        output: where progress goes.

    Raises:
        ConfigError: if there is no such benchmark here.
    """
    folder = _folder()
    names = sorted(path.stem for path in folder.glob("[!_]*.py"))
    if name is not None and name not in names:
        raise ConfigError(f"no benchmark {name!r}{nearest(name, names)}; there are: {names}")
    size = "quick" if quick else "full"
    path = folder / "expected.json"
    expected = read_json(path) if path.exists() else {}
    rows = []
    for each in names if name is None else [name]:
        output.say(f"benchmark {each} ({size})")
        numbers = _load(folder / f"{each}.py").run(quick=quick, output=output)
        rows += _rows(each, numbers, expected.get(each, {}).get(size, {}))
    return {"ok": all(row["within"] is not False for row in rows), "benchmarks": rows}


def _folder() -> Path:
    places = [Path.cwd(), Path(esscher.__file__).parents[2]]
    for place in places:
        if any((place / "benchmarks").glob("[!_]*.py")):
            return place / "benchmarks"
    raise ConfigError(
        "benchmarks are part of the source tree, not of the installed package; "
        f"run this in a checkout (looked in {places[0] / 'benchmarks'})"
    )


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"esscher_benchmark_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _rows(
    name: str, numbers: Mapping[str, Any], expected: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    rows = []
    for quantity in dict.fromkeys([*numbers, *expected]):
        got, want = numbers.get(quantity), expected.get(quantity, {})
        parts = estimate_parts(got)
        value, tolerance = want.get("value"), want.get("tolerance")
        mean = got if parts is None else parts["mean"]
        within = None
        if value is not None and tolerance is not None:
            within = mean is not None and abs(mean - value) <= tolerance
        row = {"benchmark": name, "quantity": quantity, "got": got}
        rows.append(row | {"expected": value, "tolerance": tolerance, "within": within})
    return rows
