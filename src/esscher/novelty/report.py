"""The report of a fit: who is novel, in which clusters, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from esscher.core.estimate import Estimate
from esscher.kit.runs.figures import Series, line_figure, points_figure, scatter_path
from esscher.kit.runs.folder import Run
from esscher.kit.runs.report import Card, Report, Verdict
from esscher.novelty.classifier import NoveltyClassifier
from esscher.novelty.niw import Array

__all__ = ["calibration", "confusion", "discriminant_axes", "write_report"]

BINS = 10
SHOWN_CLUSTERS = 6
"""Largest novel clusters that get a colour of their own."""


def write_report(
    run: Run,
    model: NoveltyClassifier,
    batch: Array,
    truth: NDArray[Any] | None,
    *,
    title: str,
    peers: Sequence[dict[str, Any]] = (),
) -> Path:
    """Write the report of a fitted model on its batch.

    Args:
        run: gets `report.html`.
        model: fitted, with a batch.
        batch: [M, p] its rows.
        truth: [M] their classes, where they are known.
        title: headline.
        peers: rows of a comparison: method, auc, ari, seconds.
    """
    proba = model.batch_novelty_proba()
    component = model.batch_components()
    report = Report(title, f"{len(batch)} rows in {batch.shape[1]} columns")
    report.cards(_cards(model, proba)).verdicts(_verdicts(model))
    _projection(report, model, batch, component)
    _tables(report, model, component, proba)
    if truth is not None:
        _against_truth(report, model, truth, component)
    if peers:
        report.section("Beside other detectors").table(
            ["method", "AUC of novelty", "adjusted Rand index", "CPU seconds"],
            [[p["method"], p["auc"], p["ari"], p["seconds"]] for p in peers],
            "Detectors rank rows and know no classes; a mixture fitted to the batch alone knows no "
            "labels. Ranking is not what this model is best at: joint labels and clusters are.",
        )
    _starts(report, model)
    report.section("How it was made")
    report.details("Configuration", (run.path / "config.toml").read_text(encoding="utf-8"))
    report.details("Environment", json.dumps(run.env(), indent=2))
    return report.write(run.path / "report.html")


def _cards(model: NoveltyClassifier, proba: Array) -> list[Card]:
    n = len(proba)
    share = float((proba > 0.5).mean())
    return [
        Card("novel rows", Estimate(share, float(np.sqrt(share * (1 - share) / n)), n), "share"),
        Card("novel clusters", model.n_novel_clusters_, f"at most {model.truncation}"),
        Card("evidence lower bound, nats", model.elbo_, f"best of {len(model.starts_)} starts"),
    ]


def _verdicts(model: NoveltyClassifier) -> list[Verdict]:
    agreeing = sum(s.elbo > (model.elbo_ or 0.0) - 2.0 for s in model.starts_)
    several: Literal["holds", "open"] = "holds" if agreeing > 1 else "open"
    return [
        Verdict(
            "The best ascent stood still at its end.",
            "holds" if model.converged_ else "fails",
            f"{model.n_iter_} sweeps",
        ),
        Verdict(
            "Another start found the same optimum.",
            several,
            f"{agreeing} of {len(model.starts_)} starts within 2 nats of the best",
        ),
    ]


def _projection(
    report: Report, model: NoveltyClassifier, batch: Array, component: NDArray[np.int64]
) -> None:
    """The batch on the two axes that separate its components best."""
    axes = discriminant_axes(batch, component)
    plane = (batch - batch.mean(0)) @ axes
    groups = {}
    j = len(model.classes_)
    for k, label in enumerate(model.classes_):
        groups[f"class {label}"] = plane[component == k]
    sizes = np.bincount(component, minlength=j + 1)
    order = [k for k in np.argsort(-sizes) if k >= j and sizes[k]]
    for number, k in enumerate(order[:SHOWN_CLUSTERS], 1):
        groups[f"novel {number}"] = plane[component == k]
    rest = np.isin(component, order[SHOWN_CLUSTERS:])
    if bool(rest.any()):
        groups["other novel"] = plane[rest]
    report.section("The batch").figure(
        points_figure(groups, xlabel="first discriminant axis", ylabel="second"),
        "Rows of the batch by the component that claims them, seen along the two directions that "
        "tell these components apart best.",
    )


def discriminant_axes(rows: Array, group: NDArray[np.int64]) -> Array:
    """[p, 2] directions of the largest variance between groups over that within them."""
    p = rows.shape[1]
    centred = rows - rows.mean(0)
    within, between = np.zeros((p, p)), np.zeros((p, p))
    for k in np.unique(group):
        own = centred[group == k]
        mean = own.mean(0)
        within += (own - mean).T @ (own - mean)
        between += len(own) * np.outer(mean, mean)
    within += 1e-6 * (np.trace(within) / p + 1e-12) * np.eye(p)
    root = np.linalg.inv(np.linalg.cholesky(within))
    _, vectors = np.linalg.eigh(root @ between @ root.T)
    axes = root.T @ vectors[:, ::-1][:, :2]
    if p == 1:
        axes = np.concatenate([axes, np.zeros((1, 1))], 1)
    # Signs are free; the largest coordinate of each axis is positive.
    signs = np.sign(axes[np.abs(axes).argmax(0), np.arange(2)])
    found: Array = axes * np.where(signs == 0, 1, signs)
    return found


def _tables(
    report: Report, model: NoveltyClassifier, component: NDArray[np.int64], proba: Array
) -> None:
    report.section("Known classes").table(
        ["class", "training rows", "suspect labels", "estimate", "rows of the batch"],
        [
            [str(label), e.n, int(e.suspect.sum()), e.method, int((component == k).sum())]
            for k, (label, e) in enumerate(zip(model.classes_, model.robust_, strict=True))
        ],
        "Suspect are training rows beyond the 97.5 % quantile of their class's robust distance: "
        "2.5 % of them where all labels are right and the class is normal.",
    )
    j = len(model.classes_)
    novel = [k for k in np.unique(component) if k >= j]
    novel.sort(key=lambda k: -int((component == k).sum()))
    if not novel:
        report.section("Novel clusters").paragraph("No row of the batch is called novel.")
        return
    report.section("Novel clusters").table(
        ["cluster", "rows", "least P(novel)", "mean P(novel)"],
        [
            [int(k), int(own.sum()), float(proba[own].min()), float(proba[own].mean())]
            for k, own in ((k, component == k) for k in novel)
        ],
        "Mean-field posteriors are too sure of themselves: read probabilities as a ranking.",
    )


def _against_truth(
    report: Report, model: NoveltyClassifier, truth: NDArray[Any], component: NDArray[np.int64]
) -> None:
    names, columns, counts = confusion(model, truth, component)
    report.section("Against the truth").table(
        ["true class", *columns],
        [[n, *map(int, row)] for n, row in zip(names, counts, strict=True)],
    )
    proba = model.batch_novelty_proba()
    novel = ~np.isin(truth.astype(str), model.classes_.astype(str))
    bins = calibration(proba, novel)
    points = Series(
        "rows of the batch",
        [b["predicted"] for b in bins],
        [b["observed"] for b in bins],
        [b["se"] for b in bins],
    )
    report.figure(
        scatter_path(
            [points],
            xlabel="P(novel)",
            ylabel="share that is novel",
            frontier=Series("calibrated", [0.0, 1.0], [0.0, 1.0]),
        ),
        "Share of truly novel rows against P(novel), in ten bins. Bars are ±1.96 standard errors.",
    )


def confusion(
    model: NoveltyClassifier, truth: NDArray[Any], component: NDArray[np.int64]
) -> tuple[list[str], list[str], NDArray[np.int64]]:
    """Names of true classes, of what rows were called, and counts."""
    names = sorted(set(truth.astype(str).tolist()))
    j = len(model.classes_)
    called = np.minimum(component, j)
    columns = [*(str(label) for label in model.classes_), str(model.novelty_label_)]
    text = truth.astype(str)
    counts = np.array([np.bincount(called[text == n], minlength=j + 1) for n in names])
    return names, columns, counts


def calibration(proba: Array, novel: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Predicted and observed share of novelties in each of ten bins that hold rows."""
    place = np.minimum((proba * BINS).astype(int), BINS - 1)
    found = []
    for k in range(BINS):
        own = place == k
        n = int(own.sum())
        if not n:
            continue
        observed = float(novel[own].mean())
        se = float(np.sqrt(observed * (1 - observed) / n))
        found.append(
            {"n": n, "predicted": float(proba[own].mean()), "observed": observed, "se": se}
        )
    return found


def _starts(report: Report, model: NoveltyClassifier) -> None:
    series = [
        Series(f"start {s.number}", np.arange(1, len(s.path) + 1), np.asarray(s.path))
        for s in model.starts_
    ]
    report.section("Starts").figure(
        line_figure(series, xlabel="sweeps", ylabel="evidence lower bound, nats"),
        "The bound on the way, start by start; merges and splits join later ascents to earlier.",
    )
    report.table(
        ["start", "bound, nats", "sweeps", "clusters", "stood still"],
        [
            [s.number, s.elbo, s.sweeps, s.clusters, "yes" if s.converged else "no"]
            for s in model.starts_
        ],
    )
