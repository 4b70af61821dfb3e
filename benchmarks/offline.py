"""Offline learning: known problems over seeds, and what a step costs beside d3rlpy.

Bandit: returns and actions out of distribution, per method and scale of Q. Point mass: collisions
and return over the optimum of value iteration. Speed: CPU ms of a TD3+BC step (11 observations, 3
actions, 256 x 256 units, batch 256) with its sampling, ours and, where d3rlpy is installed, theirs;
and what the weighted reverse KL adds. Memory of a million transitions. Scores on mixed logs of
Pendulum and, in the full run, HalfCheetah and Hopper; those of both TD3+BC on one file. The full
run takes many hours; behaviour policies are kept in the folder for temporary files.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import math
from typing import Any

from _harness import Numbers, interleaved, interval, main, note, ratio, seconds, timed
from _offline_memory import memory, noise
from _offline_peer import parity
from _offline_tasks import logged_tasks

from esscher.kit.rl.evaluate import seed_estimate
from esscher.offline.config import configuration
from esscher.offline.data import MixedDataset
from esscher.offline.prepare import prepare
from esscher.offline.study import (
    BANDIT_SIZE,
    POINT_MASS_SIZE,
    Study,
    bandit_study,
    point_mass_study,
    problem_methods,
    small_methods,
)
from esscher.offline.training import make_learner

SEEDS = {True: range(2), False: range(10)}
POINT_SEEDS = {True: range(1), False: range(5)}
ALPHAS = (0.5, 1.0, 2.5, 5.0, 10.0)
ROUNDS = {True: 3, False: 7}
STEPS = {True: 60, False: 200}
ROWS = 20_000


def measure(quick: bool) -> Numbers:
    numbers = bandit(quick) | point_mass(quick) | speed(quick) | memory(quick)
    numbers |= logged_tasks(quick)
    return numbers if quick else numbers | parity(range(3))


def bandit(quick: bool) -> Numbers:
    methods = small_methods(BANDIT_SIZE, 1.0)
    if not quick:
        for alpha in ALPHAS:
            found = problem_methods(("td3_bc",), alpha=alpha, **BANDIT_SIZE)
            methods[f"td3_bc, alpha {alpha:g}"] = found["td3_bc"]
        del methods["td3_bc, alpha 1"]
    study = bandit_study(methods, SEEDS[quick], note)
    names = ("all_return", "narrow_return", "narrow_ood", "wide_return")
    numbers = _numbers("bandit", study, names)
    own, plain = study.scores["td3_rkl"], study.scores["td3_rkl_unweighted"]
    gain = [a["all_return"] - b["all_return"] for a, b in zip(own, plain, strict=True)]
    ratio = [row["weight_ratio"] for row in own]
    return numbers | {
        "bandit: td3_rkl less td3_rkl_unweighted, all_return": interval(seed_estimate(gain)),
        "bandit: weight, narrow / wide": interval(seed_estimate(ratio)),
    }


def point_mass(quick: bool) -> Numbers:
    methods = small_methods(POINT_MASS_SIZE, 2.5)
    study = point_mass_study(methods, POINT_SEEDS[quick], note)
    return _numbers("point mass", study, ("collision_rate", "return_ratio"))


def speed(quick: bool) -> Numbers:
    """CPU seconds of a step with its sampling, in turns."""
    dataset = noise(ROWS)
    steps = STEPS[quick]
    small = {"density__steps": 50, "warm_start": 0}
    prepared = prepare(configuration("td3_rkl", **small), dataset, 0)
    learners = {
        name: make_learner(configuration(name, warm_start=0), prepared, 0)
        for name in ("td3_bc", "td3_rkl")
    }
    cases = {f"ours, {name}": _round(learner.step, steps) for name, learner in learners.items()}
    peer = d3rlpy_step(dataset)
    if peer is not None:
        cases["d3rlpy, TD3PlusBC"] = _round(peer, steps)
    times = interleaved(cases, ROUNDS[quick])
    own, kl = times["ours, td3_bc"], times["ours, td3_rkl"]
    numbers = {f"{name}: CPU s per step": seconds(found) for name, found in times.items()}
    numbers["td3_rkl / td3_bc: CPU time"] = ratio(kl, own)
    if peer is not None:
        numbers["d3rlpy TD3PlusBC / ours td3_bc: CPU time"] = ratio(times["d3rlpy, TD3PlusBC"], own)
    return numbers


def d3rlpy_step(dataset: MixedDataset) -> Any:
    """A function that samples and updates once, or None where d3rlpy is not installed."""
    try:
        import d3rlpy
    except ImportError:
        note("  d3rlpy is not installed; its step is not timed")
        return None
    rows = dataset.transitions
    data = d3rlpy.dataset.MDPDataset(
        rows.obs, rows.action, rows.reward, rows.terminated, rows.truncated
    )
    algorithm = d3rlpy.algos.TD3PlusBCConfig().create(device="cpu:0")
    algorithm.build_with_dataset(data)

    def step() -> None:
        algorithm.update(data.sample_transition_batch(256))

    return step


def _round(step: Any, steps: int) -> Any:
    def work() -> float:
        for _ in range(steps):
            step()
        return steps

    return lambda: timed(work)


def _numbers(problem: str, study: Study, names: tuple[str, ...]) -> Numbers:
    found: Numbers = {}
    for method, rows in study.estimates(names).items():
        for name, estimate in rows.items():
            if math.isfinite(estimate.se):
                found[f"{problem}, {method}: {name}"] = interval(estimate)
            else:
                found[f"{problem}, {method}: {name}"] = interval(
                    type(estimate)(estimate.mean, 0.0, estimate.n)
                )
    return found


if __name__ == "__main__":
    sys.exit(main("offline", __doc__, measure))
