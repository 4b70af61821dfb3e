"""Learning to branch: what is learnt in minutes beside other policies, and what each step costs.

Nodes and time: see `_branch_learning`. Speed: a node's observation beside PySCIPOpt's own, a
decision of the network, and a step of the environment beside that of gyozas where it is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _branch_learning import learning
from _harness import Numbers, Spread, Timing, interleaved, main, note, ratio, timed

from esscher.branch.callback import Limits
from esscher.branch.env import BranchingEnv, GraphSize
from esscher.branch.focus import Focus
from esscher.branch.instances.kind import InstanceClass, instance
from esscher.branch.instances.sizes import named
from esscher.branch.network import BipartiteNetwork, NetworkConfig
from esscher.branch.observation.observer import make_observer
from esscher.branch.policies import MostInfeasible
from esscher.branch.serving import Scorer
from esscher.branch.settings import configure
from esscher.branch.solve import solve

ROUNDS = {True: 5, False: 9}
SIZES = ("setcover-165x230", "setcover-500x1000")
ROOM = {
    SIZES[0]: GraphSize(rows=165, columns=230, edges=2000),
    SIZES[1]: GraphSize(rows=500, columns=1000, edges=25_000),
}
RANDOM_SEED = 7


def measure(quick: bool) -> Numbers:
    return observing() | deciding() | stepping(quick) | learning(quick)


def observing() -> Numbers:
    """An observation of the root, in turns with PySCIPOpt's bipartite graph as arrays."""
    found: Numbers = {}
    for size in SIZES:
        times = at_root(size, _observed)
        found[f"observation, {size}: ms"] = _ms(times["ours"])
        found[f"observation, {size}: PySCIPOpt / ours"] = ratio(times["PySCIPOpt"], times["ours"])
    return found


def _observed(focus: Focus) -> dict[str, list[Timing]]:
    observer = make_observer("retro43")
    observer.begin(focus.model)
    observer.observe(focus)

    def theirs() -> None:
        for part in focus.model.getBipartiteGraphRepresentation()[:3]:
            np.array(part, dtype=np.float32)

    cases = {"ours": lambda: observer.observe(focus), "PySCIPOpt": theirs}
    return interleaved({name: _repeated(work, 20) for name, work in cases.items()}, 5)


def deciding() -> Numbers:
    """Scores of the root's candidates by a network of 64 units."""
    return {f"decision, {size}: ms": _ms(at_root(size, _decided)) for size in SIZES}


def _decided(focus: Focus) -> list[Timing]:
    observer = make_observer("retro43")
    observer.begin(focus.model)
    seen = observer.observe(focus)
    config = NetworkConfig("retro43", 64)
    scorer = Scorer(BipartiteNetwork(config, rng=torch.Generator().manual_seed(0)))
    scorer.scores(seen)
    work = _repeated(lambda: scorer.scores(seen), 50)
    return [work() for _ in range(7)]


def stepping(quick: bool) -> Numbers:
    """Steps of episodes of random actions with observations, in turns with gyozas.

    Only the steps are timed: making an instance and presolving it is the same work for both. What
    SCIP takes from one random decision to the next is what no environment can be faster than.
    """
    found: Numbers = {}
    for size, count, most in ((SIZES[0], 6, math.inf), (SIZES[1], 1, 15)):
        kind = named(size)
        numbers = [i for i in range(60) if most < math.inf or decisions(kind, i) >= 10][:count]
        cases = {"ours": own_steps, "SCIP alone": bare_steps}
        if importlib.util.find_spec("gyozas") is None:
            note("  gyozas is not installed; its environment is not timed")
        else:
            cases["gyozas"] = their_steps
        for case in cases.values():
            case(kind, numbers, most)
        times: dict[str, list[list[float]]] = {name: [] for name in cases}
        for turn in range(ROUNDS[quick]):
            for name in list(cases)[:: 1 if turn % 2 == 0 else -1]:
                times[name].append(cases[name](kind, numbers, most))
        for what, of in (("mean", statistics.mean), ("median", statistics.median)):
            per = {name: [of(one) for one in rounds] for name, rounds in times.items()}
            for name, values in per.items():
                found[f"step, {size}, {name}: {what}, ms"] = Spread.of(1e3 * v for v in values)
            for other in ("ours", "SCIP alone") if "gyozas" in per else ():
                pairs = zip(per["gyozas"], per[other], strict=True)
                found[f"step, {size}, gyozas / {other}: {what}"] = Spread.of(
                    a / b for a, b in pairs
                )
    return found


def decisions(kind: InstanceClass, number: int) -> int:
    model = instance(kind, 1, number).to_scip()
    configure(model, "bare", seed=0)
    return solve(model, MostInfeasible()).decisions


def own_steps(kind: InstanceClass, numbers: list[int], most: float) -> list[float]:
    """Seconds of every step of the instances' episodes, of at most so many each."""
    env = BranchingEnv(
        lambda i: instance(kind, 1, i).to_scip(),
        ROOM[kind.name],
        make_observer("gasse19"),
    )
    rng, seconds = np.random.default_rng(RANDOM_SEED), []
    for number in numbers:
        _, info = env.reset(options={"instance": number})
        done, steps = False, 0
        while not done and steps < most:
            action = int(rng.choice(np.flatnonzero(info["action_mask"])))
            begin = time.perf_counter()
            _, _, terminated, truncated, info = env.step(action)
            seconds.append(time.perf_counter() - begin)
            done, steps = terminated or truncated, steps + 1
    env.close()
    return seconds


def bare_steps(kind: InstanceClass, numbers: list[int], most: float) -> list[float]:
    """Seconds from every random decision of a callback to the next; nothing is observed."""

    class Chance:
        def __init__(self) -> None:
            self.rng, self.left = np.random.default_rng(RANDOM_SEED), math.nan
            self.seconds: list[float] = []

        def begin(self, model: Any) -> None:
            self.left = math.nan

        def choose(self, focus: Focus) -> int:
            if not math.isnan(self.left):
                self.seconds.append(time.perf_counter() - self.left)
            choice = int(self.rng.integers(len(focus.variables)))
            self.left = time.perf_counter()
            return choice

    chance = Chance()
    for number in numbers:
        model = instance(kind, 1, number).to_scip()
        configure(model, "bare", seed=0)
        solve(model, chance, limits=Limits(max_decisions=most, stop=True))
    return chance.seconds


def their_steps(kind: InstanceClass, numbers: list[int], most: float) -> list[float]:
    from gyozas.environment import Environment
    from gyozas.observations import NodeBipartiteEcole

    rng, seconds = np.random.default_rng(RANDOM_SEED), []
    for number in numbers:
        model = instance(kind, 1, number).to_scip()
        configure(model, "bare", seed=0)
        env = Environment(iter([model]), NodeBipartiteEcole())
        _, actions, _, done, _ = env.reset()
        steps = 0
        while not done and steps < most:
            action = rng.choice(actions)
            begin = time.perf_counter()
            _, actions, _, done, _ = env.step(action)
            seconds.append(time.perf_counter() - begin)
            steps += 1
        env.close()
    return seconds


def at_root(size: str, look: Callable[[Focus], Any]) -> Any:
    """What a function gives at the first decision of a solve, which then ends."""

    class Once:
        found: Any = None

        def begin(self, model: Any) -> None:
            pass

        def choose(self, focus: Focus) -> int:
            self.found = look(focus)
            return 0

    once = Once()
    model = instance(named(size), 1, 3).to_scip()
    configure(model, "bare", seed=0)
    solve(model, once, limits=Limits(max_decisions=1, stop=True))
    return once.found


def _repeated(work: Callable[[], Any], count: int) -> Callable[[], Timing]:
    def units() -> float:
        for _ in range(count):
            work()
        return count

    return lambda: timed(units)


def _ms(times: list[Timing], clock: str = "cpu") -> Spread:
    return Spread.of(1e3 * getattr(t, clock) for t in times)


if __name__ == "__main__":
    sys.exit(main("branch", __doc__, measure))
