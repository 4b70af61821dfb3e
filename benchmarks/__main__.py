"""Run benchmarks and hold them against `expected.json`: `python benchmarks [NAME …] [--quick]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def main(argv: list[str] | None = None) -> int:
    """Each benchmark in a process of its own; 1 where a number is outside its bounds."""
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds or steps")
    parser.add_argument("--json", action="store_true", help="one JSON object per benchmark")
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are: {', '.join(NAMES)}")
    flags = [f"--{flag}" for flag in ("quick", "json") if getattr(options, flag)]
    codes = [
        subprocess.run([sys.executable, FOLDER / f"{name}.py", *flags], check=False).returncode
        for name in options.names or NAMES
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
