"""`esscher bench`: headline numbers reproduced and held against what is expected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import esscher
from esscher.errors import ConfigError
from esscher.kit.runs.output import Output
from esscher.kit.runs.typed import nearest

__all__ = ["bench"]


def bench(name: str | None = None, *, quick: bool = False, output: Output) -> dict[str, Any]:
    """Run a benchmark of this checkout, or all of them, each in a process of its own.

    A benchmark is a script `benchmarks/NAME.py` that takes `--quick` and `--json` and prints, as
    its last line, one JSON object with "ok" and "numbers"; `benchmarks/expected.json` holds the
    bounds.

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
    found = [_run(folder / f"{each}.py", quick, output) for each in names if name in (None, each)]
    rows = [row for one in found for row in one.get("numbers", [])]
    return {"ok": all(one["ok"] for one in found), "benchmarks": rows}


def _run(script: Path, quick: bool, output: Output) -> dict[str, Any]:
    output.say(f"benchmark {script.stem} ({'quick' if quick else 'full'})")
    command = [sys.executable, str(script), "--json", *(["--quick"] if quick else [])]
    errors = subprocess.DEVNULL if output.quiet else None
    # Else products of matrices in numpy take more threads than a benchmark times.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False, env=environment
    )
    lines = done.stdout.strip().splitlines()
    try:
        result: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        row = {"benchmark": script.stem, "number": f"exit code {done.returncode}", "passes": False}
        return {"ok": False, "numbers": [row]}
    if not output.json:
        print("\n".join(lines[:-1]))
    return result


def _folder() -> Path:
    places = [Path.cwd(), Path(esscher.__file__).parents[2]]
    for place in places:
        if any((place / "benchmarks").glob("[!_]*.py")):
            return place / "benchmarks"
    raise ConfigError(
        "benchmarks are part of the source tree, not of the installed package; "
        f"run this in a checkout (looked in {places[0] / 'benchmarks'})"
    )
