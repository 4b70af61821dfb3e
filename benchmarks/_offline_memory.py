"""Memory of a data set: peak above an idle process while a file is loaded and prepared."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _harness import Numbers, Spread

from esscher.kit.rl.transitions import Transitions
from esscher.offline.data import MixedDataset

OBS, ACTION = 11, 3
ROWS = {True: 200_000, False: 1_000_000}
_MEASURED = """
import sys
from pathlib import Path
from esscher.offline import MixedDataset, configuration
from esscher.offline.prepare import prepare

def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

small, whole = (Path(path) for path in sys.argv[1:])
prepare(configuration("td3_bc"), MixedDataset.load(small), 0)
Path("/proc/self/clear_refs").write_text("5")
before = most()
dataset = MixedDataset.load(whole)
kept = prepare(configuration("td3_bc"), dataset, 0)
print(most() - before)
"""


def memory(quick: bool) -> Numbers:
    """MB (10^6 bytes) per million transitions of Hopper's shapes, columns and replay together."""
    rows = ROWS[quick]
    with tempfile.TemporaryDirectory() as folder:
        paths = [noise(n).save(Path(folder), f"n{n}-v0") for n in (10_000, rows)]
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, *map(str, paths)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    return {"memory: MB per million transitions": Spread.of([int(done.stdout) / rows])}


def noise(rows: int) -> MixedDataset:
    """Episodes of a thousand steps of noise, in Hopper's shapes."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(rows + 1, OBS)).astype(np.float32)
    transitions = Transitions(
        obs[:-1],
        rng.uniform(-1, 1, (rows, ACTION)).astype(np.float32),
        rng.normal(size=rows).astype(np.float32),
        obs[1:],
        np.zeros(rows, dtype=bool),
        np.arange(1, rows + 1) % 1000 == 0,
        np.zeros(rows, dtype=np.int32),
        np.arange(rows) // 1000,
    )
    return MixedDataset(transitions, (-1.0,) * ACTION, (1.0,) * ACTION)
