"""Landsat pixels, cotton crop and vegetation stubble held out, beside detectors and a mixture."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from _harness import Numbers, note, single
from _novelty_designs import print_rows

from esscher.errors import DataError
from esscher.novelty import examples
from esscher.novelty.classifier import NoveltyClassifier
from esscher.novelty.peers import compare_peers, scores_of
from esscher.novelty.settings import NIWPrior

EARLIER: Mapping[str, tuple[float | None, float | None]] = {
    "published start": (0.9646, 0.562),
    "published prior, 20 k-means starts": (0.9629, 0.564),
    "fifth nearest neighbour": (0.9840, None),
    "local outlier factor": (0.9817, None),
    "least Mahalanobis distance, mcd": (0.9698, None),
    "least Mahalanobis distance, empirical": (0.9675, None),
    "isolation forest": (0.9571, None),
    "one-class SVM": (0.9441, None),
    "Dirichlet-process mixture": (None, 0.357),
}
"""AUC and ARI measured before with other versions and seeds; 40 starts where we take 20."""


def landsat(quick: bool) -> Numbers:
    """Priors and searches, and peers on the same rows; skipped, and said so, without the data."""
    try:
        _, rows, labels, batch, truth = examples.landsat()
        train, _ = examples.landsat_files()
    except DataError as error:
        note(f"  the Landsat numbers are left out: {error}")
        return {}
    numbers = {
        "Landsat: rows": single(len(train) + len(batch)),
        "Landsat: columns": single(rows.shape[1]),
        "Landsat: classes": single(len(np.unique(np.append(labels, truth)))),
    }
    table = []
    for name, settings in _kinds(rows, quick).items():
        cpu = time.process_time()
        model = NoveltyClassifier(random_state=0, **settings).fit(rows, labels).fit_novel(batch)
        spent = time.process_time() - cpu
        found = scores_of(
            model.batch_novelty_proba(), model.batch_components(), model.classes_, truth
        )
        assert model.elbo_ is not None
        found |= {"ELBO": model.elbo_, "clusters": model.n_novel_clusters_, "CPU s": spent}
        found["suspects"] = max(float(e.suspect.mean()) for e in model.robust_)
        numbers |= {f"Landsat, {name}: {k}": single(v) for k, v in found.items() if v is not None}
        table.append(_row(name, found))
        note(f"  Landsat, {name}: {spent:.0f} CPU s")
    for row in compare_peers(rows, labels, batch, truth, seed=0):
        for key in ("auc", "ari"):
            if row[key] is not None:
                numbers[f"Landsat, {row['method']}: {key}"] = single(row[key])
        table.append(_row(row["method"], row | {"CPU s": row["seconds"]}))
    columns = ["AUC", "earlier", "ARI", "earlier", "bound", "clusters", "CPU s"]
    print_rows(["Landsat", *columns], table)
    ari = numbers["Landsat, published prior, 20 k-means starts: ari"].median
    mixture = numbers["Landsat, Dirichlet-process mixture: ari"].median
    return numbers | {"Landsat, published prior: ari - the mixture's": single(ari - mixture)}


def _kinds(rows: Any, quick: bool) -> dict[str, dict[str, Any]]:
    """Settings by name; only those with moves depend on how much time there is."""
    p = rows.shape[1]
    wide = NIWPrior(rows.mean(0), 0.1, 3.0, (p + 1) * np.cov(rows, rowvar=False))
    published = {
        "truncation": 10,
        "stick_concentration": 10.0,
        "known_trust": 200.0,
        "novel_prior": wide,
        "scale": False,
    }
    plain = {"start": "kmeans", "moves": False}
    found = {
        "published start": published | plain | {"n_init": 1},
        "published prior, 20 k-means starts": published | plain | {"n_init": 20},
        "published prior, 20 outlying starts": published | {"moves": False, "n_init": 20},
        "published prior, moves": published | {"n_init": 20},
        "published prior, moves, plain moments": published | {"n_init": 20, "robust": "empirical"},
        "our prior": {"n_init": 20},
    }
    if quick:
        for settings in found.values():
            if settings.get("moves", True):
                settings["n_init"] = 2
    return found


def _row(name: str, found: Mapping[str, Any]) -> list[str]:
    auc, ari = EARLIER.get(name, (None, None))

    def show(value: float | None, places: int) -> str:
        return "-" if value is None else f"{value:.{places}f}"

    return [
        name,
        show(found["auc"], 4),
        show(auc, 4),
        show(found["ari"], 3),
        show(ari, 3),
        show(found.get("ELBO"), 0),
        show(found.get("clusters"), 0),
        show(found["CPU s"], 1),
    ]
