"""A fit in a run folder, for a process that is killed: python -m tests.align.crash FOLDER."""

import sys
from pathlib import Path

from esscher.align.config import FitConfig
from esscher.align.fit import fit
from esscher.kit.runs.folder import Run
from tests.align import worlds

CONFIG = FitConfig("forward_kl", steps=60, batch=64)


def go(root: Path, *, slow: bool = False):
    """Start a run in the folder, or continue the one that is there."""
    found = [p for p in root.iterdir() if not p.name.startswith(".")]
    run = (
        Run.open(found[0], CONFIG)
        if found
        else Run.create(root, "align", "fit", "crash", config=CONFIG, seed=0)
    )

    def on_step(done, total, info, state):
        if slow:
            print(done, flush=True)

    with run:
        return fit(
            worlds.prior(), worlds.toy(), config=CONFIG, run=run, save_every=7, on_step=on_step
        ), run


if __name__ == "__main__":
    go(Path(sys.argv[1]), slow=True)
