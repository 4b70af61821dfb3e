"""Wall time of slow rewards on two worker processes, next to the same calls in this process.

One unit is one reward call that waits 50 ms, as one does that asks a server; four of them make a
`map`. Both pools are open before the clock starts, so workers are not started in the time. A call
that computes for 50 ms instead is shown as well: that ratio also needs two free cores.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _harness import Numbers, Round, Timing, interleaved, main, one_thread, ratio, seconds, timed

from esscher.align.rewards.pooled import PooledReward
from esscher.kit.scale.pool import Pool, open_pool

SECONDS = 0.05
CALLS = 4
WORKERS = 2


def waiting(items):
    """A reward that waits."""
    time.sleep(SECONDS)
    return [float(len(x)) for x in items]


def computing(items):
    """A reward that computes."""
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        pass
    return [float(len(x)) for x in items]


def trivial(items):
    """A reward that costs nothing, so that the pool's own cost is left."""
    return [float(len(x)) for x in items]


def one_round(pool: Pool, function, maps: int, calls: int) -> Round:
    """`maps` calls of a reward on `calls` items each, one item per reward call."""
    reward = PooledReward(function, pool, batch=1)
    items = ["x" * i for i in range(calls)]
    expected = [float(i) for i in range(calls)]

    def work() -> int:
        for _ in range(maps):
            assert reward(items) == expected
        return maps * calls

    work()
    return lambda: timed(work)


def measure(quick: bool) -> Numbers:
    one_thread()
    maps = 5 if quick else 20
    with open_pool("serial") as serial, open_pool(f"processes:{WORKERS}") as pool:
        times = interleaved(
            {
                f"{kind}, {where}": one_round(chosen, function, maps, CALLS)
                for kind, function in (("waiting", waiting), ("computing", computing))
                for where, chosen in (("serial", serial), ("workers", pool))
            },
            3 if quick else 5,
        )
        empty = interleaved({"trivial": one_round(pool, trivial, maps, 100)}, 3)["trivial"]
    numbers = {
        f"{kind}: serial / {WORKERS} workers, wall": ratio(
            times[f"{kind}, serial"], times[f"{kind}, workers"], "wall"
        )
        for kind in ("waiting", "computing")
    }
    cost = [Timing(0.0, 1e3 * t.wall) for t in empty]
    return numbers | {"cost of the pool, wall-ms per call": seconds(cost, "wall")}


def run(quick: bool = False, output: object = None) -> dict[str, float]:
    return {key: spread.median for key, spread in measure(quick).items()}


if __name__ == "__main__":
    sys.exit(main("reward_pool", __doc__, measure))
