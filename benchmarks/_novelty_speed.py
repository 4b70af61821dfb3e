"""What a sweep costs, beside scikit-learn's mixture, and a million rows from disk."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _harness import Numbers, Spread, Timing, interleaved, note, ratio, seconds, single
from _novelty_designs import PUBLISHED

from esscher.novelty.cavi import ascend
from esscher.novelty.classifier import NoveltyClassifier
from esscher.novelty.designs import simulate
from esscher.novelty.fit import SearchConfig, search
from esscher.novelty.starts import STARTS
from esscher.novelty.svi import StochasticConfig, stochastic_fit
from esscher.novelty.sweep import Batch

DIM, SWEEPS = 10, 12
MILLION = 1000.0
"""Factor of design D1 that has a million rows."""


def speed(quick: bool) -> Numbers:
    return sweeps(quick) | memory() | million(MILLION) | beside_full()


def _prior(sim: Any) -> Any:
    model = NoveltyClassifier(random_state=0, **PUBLISHED)
    return model.fit(sim.train, sim.labels).prior_


def _problem(factor: float) -> tuple[Any, Any, Any]:
    """Prior, batch and responsibilities to begin with."""
    sim = simulate(dim=DIM, factor=factor, seed=0)
    prior = _prior(sim)
    phi = STARTS["random"](prior, sim.test, np.random.default_rng(0), 0)
    return prior, Batch(sim.test), phi


def _ours(factor: float) -> Callable[[], Timing]:
    prior, batch, phi = _problem(factor)

    def run(n: int) -> float:
        cpu = time.process_time()
        ascend(prior, batch, phi, max_iter=n, tol=1e-300)
        return time.process_time() - cpu

    # Set-up does not count: the difference of a long and a short ascent.
    def timing() -> Timing:
        spent = (run(SWEEPS) - run(2)) / (SWEEPS - 2)
        return Timing(spent, spent)

    return timing


def _mixture(factor: float) -> Callable[[], Timing]:
    from sklearn.mixture import BayesianGaussianMixture

    y = simulate(dim=DIM, factor=factor, seed=0).test

    def run(n: int) -> float:
        model = BayesianGaussianMixture(
            n_components=23, tol=0, max_iter=n, init_params="random", random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cpu = time.process_time()
            model.fit(y)
            return time.process_time() - cpu

    def timing() -> Timing:
        spent = (run(SWEEPS) - run(2)) / (SWEEPS - 2)
        return Timing(spent, spent)

    return timing


def sweeps(quick: bool) -> Numbers:
    """Sweeps at three sizes, the mixture's at the first, in turns."""
    found = interleaved(
        {
            "sweep, M = 10,000": _ours(10),
            "mixture, M = 10,000": _mixture(10),
            "sweep, M = 20,000": _ours(20),
            "sweep, M = 200,000": _ours(200),
        },
        3 if quick else 7,
    )
    ours = found["sweep, M = 10,000"]
    growth = ratio(found["sweep, M = 200,000"], found["sweep, M = 20,000"])
    return {
        "p = 10, T = 20: sweep of 10,000 rows, CPU s": seconds(ours),
        "p = 10, T = 20: sweep / iteration of scikit-learn's mixture": ratio(
            ours, found["mixture, M = 10,000"]
        ),
        "p = 10, T = 20: time per row, 200,000 / 20,000 rows": Spread(
            growth.median / 10, growth.low / 10, growth.high / 10
        ),
    }


def memory() -> Numbers:
    """Peak of an ascent's arrays over 3 M (J + T) (1 + p) numbers of 8 bytes."""
    found = {}
    for factor in (20, 200):
        sim = simulate(dim=DIM, factor=factor, seed=0)
        prior = _prior(sim)
        rows, k = len(sim.test), len(prior.components)
        phi = STARTS["outlying"](prior, sim.test, np.random.default_rng(0), 0)
        tracemalloc.start()
        ascend(prior, sim.test, phi, max_iter=3)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        allowed = 3 * 8 * rows * k * (1 + DIM)
        found[f"p = 10, T = 20, M = {rows}: peak memory / allowed"] = single(peak / allowed)
    return found


def million(factor: float) -> Numbers:
    """A million rows, in order of their classes, from a file, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        sim = simulate(dim=DIM, factor=factor, seed=0)
        path = Path(folder) / "rows.npy"
        np.save(path, sim.test)
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            wall, cpu, peak, ari, bound, sweeps = pool.apply(_from_disk, (str(path), factor))
    note(f"  {len(sim.test)} rows from disk: {wall:.0f} s by the clock")
    where = f"D1, M = {len(sim.test)}, p = 10, from disk"
    return {
        f"{where}: seconds by the clock": single(wall),
        f"{where}: CPU s": single(cpu),
        f"{where}: peak memory of the process, GiB": single(peak / 2**20),
        f"{where}: ARI": single(ari),
        f"{where}: bound": single(bound),
        f"{where}: exact sweeps": single(sweeps),
    }


def _from_disk(path: str, factor: float) -> tuple[float, float, int, float, float, int]:
    from sklearn.metrics import adjusted_rand_score

    prior = _prior(simulate(dim=DIM, seed=0))
    clock, cpu = time.perf_counter(), time.process_time()
    fit = stochastic_fit(prior, path, StochasticConfig())
    wall, cpu = time.perf_counter() - clock, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    truth = simulate(dim=2, factor=factor, seed=0).truth
    ari = float(adjusted_rand_score(truth, fit.components()))
    return wall, cpu, peak, ari, fit.elbo, len(fit.path)


def beside_full() -> Numbers:
    """By parts and in memory: labels and bounds, and steps or sweeps or both."""
    from sklearn.metrics import adjusted_rand_score

    sim = simulate(dim=DIM, factor=30, seed=1)
    prior = _prior(sim)
    config = SearchConfig(n_starts=2)
    cpu = time.process_time()
    full = search(prior, sim.test, config).best
    spent = time.process_time() - cpu
    wanted = adjusted_rand_score(sim.truth, full.phi.argmax(1))
    where = f"D1, M = {len(sim.test)}, p = 10"
    numbers = {f"{where}, all in memory: CPU s": single(spent)}
    for name, epochs in (("sweeps by blocks", 0), ("one epoch, then sweeps", 1)):
        cpu = time.process_time()
        fit = stochastic_fit(prior, sim.test, StochasticConfig(epochs=epochs, search=config))
        ari = adjusted_rand_score(sim.truth, fit.components())
        numbers |= {
            f"{where}, {name}: CPU s": single(time.process_time() - cpu),
            f"{where}, {name}: exact sweeps": single(len(fit.path)),
            f"{where}, {name}: ARI - in memory": single(ari - wanted),
            f"{where}, {name}: bound per row - in memory": single(
                (fit.elbo - full.elbo) / len(sim.test)
            ),
        }
        note(f"  {where}, {name}")
    return numbers
