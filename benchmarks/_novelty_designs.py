"""The published designs: our fits beside the study's own start, label noise, the sampler."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from _harness import Numbers, Spread, note, single

from esscher.novelty.classifier import NoveltyClassifier
from esscher.novelty.designs import Simulated, simulate
from esscher.novelty.gibbs import blocked_gibbs
from esscher.novelty.settings import NIWPrior

PUBLISHED: dict[str, Any] = {
    "truncation": 20,
    "stick_concentration": 5.0,
    "known_trust": 50.0,
    "scale": False,
    "novel_prior": NIWPrior(0.0, 0.1, 3.0, 10.0),
}
PLAIN = {"start": "kmeans", "moves": False, "n_init": 1}
"""How the published fits begin."""
COLUMNS = ("ARI", "AMI", "accuracy", "clusters", "iterations")
STUDY: Mapping[tuple[float, int], tuple[float, ...]] = {
    (0.5, 2): (0.933, 0.960, 1.000, 6.0, 20),
    (0.5, 5): (0.815, 0.900, 0.910, 5.0, 29),
    (0.5, 10): (0.766, 0.854, 0.886, 6.6, 42),
    (1, 2): (0.933, 0.960, 1.000, 6.4, 28),
    (1, 5): (),
    (1, 10): (0.727, 0.835, 0.850, 4.6, 51),
    (2.5, 2): (0.963, 0.956, 1.000, 7.0, 40),
    (5, 2): (0.965, 0.955, 1.000, 7.0, 45),
    (5, 10): (0.738, 0.830, 0.850, 5.0, 43),
    (10, 2): (0.965, 0.955, 1.000, 7.0, 83),
}
"""One k-means start of an earlier implementation, five seeds, by factor and columns."""


def mean(values: Iterable[float]) -> Spread:
    """The mean with the smallest and the largest: rare failures count."""
    each = list(values)
    return Spread(float(np.mean(each)), min(each), max(each))


def designs(quick: bool) -> Numbers:
    """Published start and ours, size by size and seed by seed, and a table of both."""
    numbers: Numbers = {}
    rows = []
    for (factor, dim), study in STUDY.items():
        found = _size(factor, dim, range(5 if quick else 10), 2 if quick or factor > 5 else 10)
        for name, runs in found.items():
            means = {key: mean(run[key] for run in runs) for key in runs[0]}
            where = f"D1, M = {int(1000 * factor)}, p = {dim}, {name}"
            numbers |= {f"{where}: {key}": value for key, value in means.items()}
            shown = [f"{means[key].median:.3f}" for key in COLUMNS]
            rows.append(
                [f"{int(1000 * factor)}, {dim}", name, *shown, f"{means['CPU s'].median:.2f}"]
            )
        if study:
            rows.append(["", "earlier measurement", *(f"{value:.3f}" for value in study), ""])
    print_rows(["M, p", "fit", *COLUMNS, "CPU s"], rows)
    return numbers


def _size(
    factor: float, dim: int, seeds: Iterable[int], n_init: int
) -> dict[str, list[dict[str, float]]]:
    kinds: dict[str, dict[str, Any]] = {"published start": PLAIN, "ours": {"n_init": n_init}}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    for seed in seeds:
        sim = simulate(dim=dim, factor=factor, seed=seed)
        for name, more in kinds.items():
            model = NoveltyClassifier(random_state=seed, **PUBLISHED | more)
            model.fit(sim.train, sim.labels)
            cpu = time.process_time()
            model.fit_novel(sim.test)
            found[name].append(scores(model, sim) | {"CPU s": time.process_time() - cpu})
    note(f"  M = {int(1000 * factor)}, p = {dim}")
    return found


def scores(model: NoveltyClassifier, sim: Simulated) -> dict[str, float]:
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    component, j = model.batch_components(), sim.n_known
    right = (component >= j) == (sim.truth > j)
    return {
        "ARI": float(adjusted_rand_score(sim.truth, component)),
        "AMI": float(adjusted_mutual_info_score(sim.truth, component)),
        "accuracy": float(right.mean()),
        "clusters": float(len(np.unique(component))),
        "iterations": float(model.n_iter_),
    }


def label_noise(quick: bool) -> Numbers:
    """120 training labels of two classes swapped: what each estimate of stage 1 makes of it."""
    found: dict[str, list[float]] = {"mcd": [], "mrcd": [], "empirical": []}
    for seed in range(10):
        sim = simulate(seed=seed, swapped=120)
        for robust, each in found.items():
            settings = PUBLISHED | {"n_init": 1 if quick else 4, "robust": robust}
            model = NoveltyClassifier(random_state=seed, **settings).fit(sim.train, sim.labels)
            each.append(scores(model.fit_novel(sim.test), sim)["accuracy"])
    gains = [a - b for a, b in zip(found["mcd"], found["empirical"], strict=True)]
    return {
        **{f"D1, 120 labels swapped, {k}: accuracy": mean(each) for k, each in found.items()},
        "D1, 120 labels swapped: accuracy of mcd - of empirical": mean(gains),
    }


def against_sampler(quick: bool) -> Numbers:
    """One ascent from the published start without moves, and a chain that is left to run."""
    sim = simulate(seed=0)
    model = NoveltyClassifier(random_state=0, **PUBLISHED | PLAIN).fit(sim.train, sim.labels)
    ascents, sweeps = [], []
    for _ in range(7):
        cpu = time.process_time()
        model.fit_novel(sim.test)
        ascents.append(time.process_time() - cpu)
        begin = model.batch_components()
        rng = np.random.default_rng(0)
        cpu = time.process_time()
        blocked_gibbs(model.prior_, sim.test, begin, sweeps=200, burn_in=0, rng=rng)
        sweeps.append((time.process_time() - cpu) / 200)
    where = "D1, M = 1000, p = 2"
    ratios = Spread.of(20_000 * slow / fast for slow, fast in zip(sweeps, ascents, strict=True))
    return {
        f"{where}: 20,000 sweeps of Gibbs / one ascent": ratios,
        f"{where}: ascent, CPU s": Spread.of(ascents),
        f"{where}: sweep of Gibbs, CPU ms": Spread.of(1e3 * s for s in sweeps),
        f"{where}: labels as the sampler's": single(_agreement(sim, model, quick)),
        **_half_size(quick),
    }


def _agreement(sim: Simulated, model: NoveltyClassifier, quick: bool) -> float:
    """Share of rows that a chain of its own calls novel where the model does."""
    kept, burn_in = (300, 1500) if quick else (2000, 2000)
    nowhere = np.full(len(sim.test), sim.n_known, dtype=np.int64)
    rng = np.random.default_rng(1)
    chain = blocked_gibbs(model.prior_, sim.test, nowhere, sweeps=kept, burn_in=burn_in, rng=rng)
    novel = chain.shares(len(model.prior_.components))[:, sim.n_known :].sum(1) > 0.5
    return float((novel == (model.batch_novelty_proba() > 0.5)).mean())


def _half_size(quick: bool) -> Numbers:
    sim = simulate(factor=0.5, seed=0)
    model = NoveltyClassifier(random_state=0, **PUBLISHED | {"n_init": 2})
    model.fit(sim.train, sim.labels).fit_novel(sim.test)
    share = _agreement(sim, model, quick)
    return {"D1, M = 500, p = 2: labels as the sampler's": single(share)}


def estimator_rules(quick: bool) -> Numbers:
    """scikit-learn's own checks, and one seed with one and two processes."""
    from sklearn.utils.estimator_checks import check_estimator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checks = check_estimator(NoveltyClassifier(n_init=1), on_fail=None, on_skip=None)
    failed = sum(check["status"] == "failed" for check in checks)
    sim = simulate(factor=0.3, seed=0)
    labels = [
        NoveltyClassifier(n_init=2, n_jobs=n, random_state=0)
        .fit(sim.train, sim.labels)
        .fit_novel(sim.test)
        .batch_components()
        for n in (1, 2)
    ]
    return {
        "check_estimator: checks that fail": single(failed),
        "one seed, 1 and 2 processes: labels that differ": single(
            int((labels[0] != labels[1]).sum())
        ),
    }


def print_rows(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output."""
    widths = [max(len(row[i]) for row in [names, *rows]) for i in range(len(names))]
    for row in [names, *rows]:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    print()
