"""What every benchmark here shares: interleaved timing, spreads, and the check against expected."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from esscher.core.estimate import Estimate

FOLDER = Path(__file__).resolve().parent
EXPECTED = FOLDER / "expected.json"


@dataclass(frozen=True)
class Spread:
    """Median of repeated measurements with the smallest and the largest; one value has no range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))

    def show(self) -> str:
        if self.low == self.high:
            return f"{self.median:.4g}"
        return f"{self.median:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Timing:
    """Seconds per unit of work: of this process on one thread, and by the clock."""

    cpu: float
    wall: float


Numbers = dict[str, Spread]
Round = Callable[[], Timing]


def timed(work: Callable[[], float]) -> Timing:
    """Time work that returns how many units it did."""
    wall, cpu = time.perf_counter(), time.process_time()
    units = work()
    return Timing((time.process_time() - cpu) / units, (time.perf_counter() - wall) / units)


def interleaved(cases: Mapping[str, Round], rounds: int) -> dict[str, list[Timing]]:
    """Every case once per round, in alternating order, so that load falls on all of them alike."""
    out: dict[str, list[Timing]] = {name: [] for name in cases}
    for r in range(rounds):
        names = list(cases) if r % 2 == 0 else list(reversed(cases))
        for name in names:
            out[name].append(cases[name]())
            note(f"  round {r + 1}/{rounds}  {name:32s} {1e3 * out[name][-1].cpu:10.3f} CPU-ms")
    return out


def ratio(slow: Sequence[Timing], fast: Sequence[Timing], clock: str = "cpu") -> Spread:
    """How many times faster the second is, round by round."""
    pairs = zip(slow, fast, strict=True)
    return Spread.of(getattr(a, clock) / getattr(b, clock) for a, b in pairs)


def seconds(times: Sequence[Timing], clock: str = "cpu") -> Spread:
    return Spread.of(getattr(t, clock) for t in times)


def rate(times: Sequence[Timing], clock: str = "cpu") -> Spread:
    return Spread.of(1 / getattr(t, clock) for t in times)


def single(value: float) -> Spread:
    return Spread(float(value), float(value), float(value))


def interval(estimate: Estimate) -> Spread:
    """A 95 % interval in place of a range over rounds."""
    return Spread(estimate.mean, *estimate.interval())


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def one_thread() -> None:
    torch.set_num_threads(1)


def compare(name: str, numbers: Numbers, expected: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per number: got, expected, and whether it passes (None: not judged)."""
    rows = []
    for key in dict.fromkeys([*numbers, *expected]):
        got, want = numbers.get(key), expected.get(key)
        row: dict[str, Any] = {"benchmark": name, "number": key}
        row["got"] = None if got is None else [got.low, got.median, got.high]
        row["expected"] = want
        row["passes"] = None if got is None or want is None else passes(got.median, want)
        rows.append(row)
    return rows


def passes(value: float, want: Mapping[str, Any]) -> bool:
    """Inside the bounds where there are any, else within the tolerance of the value."""
    if "low" in want or "high" in want:
        return bool(want.get("low", -float("inf")) <= value <= want.get("high", float("inf")))
    return bool(abs(value - want["value"]) <= want["tolerance"])


def bound_text(want: Mapping[str, Any] | None) -> str:
    if want is None:
        return ""
    if "low" not in want and "high" not in want:
        return f"{want['value']:.4g} ± {want['tolerance']:.2g}"
    low = f"≥ {want['low']:.4g}" if "low" in want else ""
    high = f"≤ {want['high']:.4g}" if "high" in want else ""
    return f"{low} {high}".strip()


def print_table(name: str, numbers: Numbers, rows: Sequence[Mapping[str, Any]], file: Any) -> None:
    """Where anything of these was published, in a column beside."""
    published = [(row["expected"] or {}).get("published") for row in rows]
    beside = any(number is not None for number in published)
    head = "number", "got: median [min, max]", "passes if", *(("published",) if beside else ()), ""
    table = [head]
    for row, number in zip(rows, published, strict=True):
        got = numbers.get(row["number"])
        table.append(
            (
                row["number"],
                "not measured" if got is None else got.show(),
                bound_text(row["expected"]),
                *(("" if number is None else f"{number:.4g}",) if beside else ()),
                {True: "ok", False: "OUTSIDE", None: ""}[row["passes"]],
            )
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print(name, file=file)
    for cells in table:
        pairs = zip(cells, widths, strict=True)
        print("  ".join(f"{cell:{width}s}" for cell, width in pairs).rstrip(), file=file)


def read_expected() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(EXPECTED.read_text(encoding="utf-8"))
    return found


def report(name: str, numbers: Numbers, *, as_json: bool) -> bool:
    """Print the table (and one JSON line at the end); whether nothing is outside its bounds."""
    rows = compare(name, numbers, read_expected().get(name, {}))
    print_table(name, numbers, rows, sys.stdout)
    ok = all(row["passes"] is not False for row in rows)
    if as_json:
        print(json.dumps({"benchmark": name, "ok": ok, "numbers": rows}))
    return ok


def main(
    name: str,
    description: str | None,
    measure: Callable[[bool], Numbers],
    argv: Sequence[str] | None = None,
) -> int:
    """Command line of one benchmark; 1 where a number is outside its bounds."""
    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("--quick", action="store_true", help="fewer rounds or steps")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(argv)
    one_thread()
    return 0 if report(name, measure(options.quick), as_json=options.json) else 1
