"""Novelty detection on the published designs and on Landsat, beside what else there is.

Design D1, seven Gaussians of which three are known, in 2 to 10 columns with the published prior:
adjusted Rand index and share of rows rightly called known or novel, for one published start (one
k-means, no moves) and for ours. The same design beside blocked Gibbs sampling of the same model:
labels of one ascent against those of the chain, and CPU seconds against 20,000 sweeps, of which
200 are timed. Landsat: cotton crop and vegetation stubble held out as novel; the
published prior, and ours. Skipped, and said so, where the data set is not at hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import os
import time
from typing import Any

import numpy as np
from _harness import Numbers, Spread, main, note, single

from esscher.novelty.classifier import NoveltyClassifier
from esscher.novelty.designs import simulate
from esscher.novelty.gibbs import blocked_gibbs
from esscher.novelty.peers import compare_peers, scores_of
from esscher.novelty.settings import NIWPrior

SIZES = {True: ((1, 2), (1, 10)), False: ((1, 2), (1, 5), (1, 10), (5, 2), (5, 10))}
SEEDS = {True: range(2), False: range(5)}
STARTS = {True: 2, False: 10}
PUBLISHED = {"truncation": 20, "stick_concentration": 5.0, "known_trust": 50.0, "scale": False}
LANDSAT = Path(__file__).resolve().parents[2] / "shared" / "data" / "statlog"
KNOWN = (1, 3, 4, 7)


def measure(quick: bool) -> Numbers:
    numbers: Numbers = {}
    for factor, dim in SIZES[quick]:
        numbers |= designs(factor, dim, quick)
    return numbers | against_sampler(quick) | landsat(quick)


def designs(factor: float, dim: int, quick: bool) -> Numbers:
    """Published start and ours, seed by seed."""
    prior = NIWPrior(0.0, 0.1, 3.0, 10.0)
    kinds: dict[str, dict[str, Any]] = {
        "published start": {"start": "kmeans", "moves": False, "n_init": 1},
        "ours": {"n_init": STARTS[quick]},
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    for seed in SEEDS[quick]:
        sim = simulate(dim=dim, factor=factor, seed=seed)
        for name, more in kinds.items():
            settings = PUBLISHED | more | {"novel_prior": prior, "random_state": seed}
            cpu = time.process_time()
            model = NoveltyClassifier(**settings).fit(sim.train, sim.labels).fit_novel(sim.test)
            row = _scores(model, sim.truth) | {"CPU s": time.process_time() - cpu}
            found[name].append(row)
        note(f"  M = {len(sim.test)}, p = {dim}, seed {seed}")
    where = f"D1, M = {int(1000 * factor)}, p = {dim}"
    return {
        f"{where}, {name}: {key}": _mean(row[key] for row in rows)
        for name, rows in found.items()
        for key in rows[0]
    }


def against_sampler(quick: bool) -> Numbers:
    """One ascent without moves, and a chain that is left to run."""
    sim = simulate(seed=0)
    settings = PUBLISHED | {
        "n_init": 1,
        "moves": False,
        "novel_prior": NIWPrior(0.0, 0.1, 3.0, 10.0),
    }
    model = NoveltyClassifier(random_state=0, **settings).fit(sim.train, sim.labels)
    ascents, sweeps = [], []
    for _ in range(3):
        cpu = time.process_time()
        model.fit_novel(sim.test)
        ascents.append(time.process_time() - cpu)
        begin = model.batch_components()
        cpu = time.process_time()
        blocked_gibbs(
            model.prior_, sim.test, begin, sweeps=200, burn_in=0, rng=np.random.default_rng(0)
        )
        sweeps.append((time.process_time() - cpu) / 200)
    kept, burn_in = (300, 1500) if quick else (2000, 2000)
    nowhere = np.full(len(sim.test), sim.n_known, dtype=np.int64)
    chain = blocked_gibbs(
        model.prior_, sim.test, nowhere, sweeps=kept, burn_in=burn_in, rng=np.random.default_rng(1)
    )
    novel = chain.shares(len(model.prior_.components))[:, sim.n_known :].sum(1) > 0.5
    same = float((novel == (model.batch_novelty_proba() > 0.5)).mean())
    ratios = Spread.of(20_000 * slow / fast for slow, fast in zip(sweeps, ascents, strict=True))
    return {
        "D1, M = 1000, p = 2: 20,000 sweeps of Gibbs / one ascent": ratios,
        "D1, M = 1000, p = 2: ascent, CPU s": Spread.of(ascents),
        "D1, M = 1000, p = 2: sweep of Gibbs, CPU ms": Spread.of(1e3 * s for s in sweeps),
        "D1, M = 1000, p = 2: labels as the sampler's": single(same),
    }


def _mean(values: Any) -> Spread:
    """The mean with the smallest and the largest: rare failures count."""
    each = list(values)
    return Spread(float(np.mean(each)), min(each), max(each))


def _scores(model: NoveltyClassifier, truth: Any) -> dict[str, float]:
    found = scores_of(model.batch_novelty_proba(), model.batch_components(), model.classes_, truth)
    assert found["ari"] is not None
    assert found["novelty_accuracy"] is not None
    return {"ARI": found["ari"], "accuracy": found["novelty_accuracy"]}


def landsat(quick: bool) -> Numbers:
    """Both priors, and peers on the same rows."""
    folder = LANDSAT if LANDSAT.is_dir() else Path(os.environ.get("ESSCHER_DATA", ".")) / "statlog"
    if not (folder / "sat.trn").exists():
        note("  the Landsat data set is not at hand; its numbers are left out")
        return {}
    train, test = (np.loadtxt(folder / name) for name in ("sat.trn", "sat.tst"))
    rows, labels = train[:, :-1] / 4.5, train[:, -1].astype(int)
    known = np.isin(labels, KNOWN)
    rows, labels = rows[known], labels[known]
    batch, truth = test[:, :-1] / 4.5, test[:, -1].astype(int)
    p = rows.shape[1]
    wide = NIWPrior(rows.mean(0), 0.1, 3.0, (p + 1) * np.cov(rows, rowvar=False))
    published = {"truncation": 10, "stick_concentration": 10.0, "known_trust": 200.0}
    starts = {"n_init": 2 if quick else 20}
    plain = {"start": "kmeans", "moves": False, "n_init": 1}
    kinds: dict[str, dict[str, Any]] = {
        "published start": published | plain | {"novel_prior": wide, "scale": False},
        "published prior": published | starts | {"novel_prior": wide, "scale": False},
        "ours": starts,
    }
    numbers: Numbers = {}
    for name, settings in kinds.items():
        cpu = time.process_time()
        model = NoveltyClassifier(random_state=0, **settings).fit(rows, labels).fit_novel(batch)
        spent = time.process_time() - cpu
        found = scores_of(
            model.batch_novelty_proba(), model.batch_components(), model.classes_, truth
        )
        assert model.elbo_ is not None
        found |= {"ELBO": model.elbo_, "clusters": model.n_novel_clusters_, "CPU s": spent}
        numbers |= {f"Landsat, {name}: {k}": single(v) for k, v in found.items() if v is not None}
        note(f"  Landsat, {name}: {spent:.0f} CPU s")
    for row in compare_peers(rows, labels, batch, truth, seed=0):
        for key in ("auc", "ari"):
            if row[key] is not None:
                numbers[f"Landsat, {row['method']}: {key}"] = single(row[key])
    return numbers


def run(quick: bool = False, output: object = None) -> dict[str, float]:
    return {key: spread.median for key, spread in measure(quick).items()}


if __name__ == "__main__":
    sys.exit(main("novelty", __doc__, measure))
