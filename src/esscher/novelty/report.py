"""The report of a fit: who is novel, in which clusters, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from esscher.core.estimate import Estimate, from_samples
from esscher.kit.runs.figures import Series, line_figure, points_figure, scatter_path
from esscher.kit.runs.folder import Run
from esscher.kit.runs.report import Card, Report, Verdict
from esscher.novelty.classifier import NoveltyClassifier
from esscher.novelty.inference import Trace
from esscher.novelty.niw import Array, Index

__all__ = ["calibration", "confusion", "discriminant_axes", "principal_axes", "write_report"]

BINS = 10
LEAST = 1e-12
"""Probabilities are this far from 0 and 1 for their logarithms."""
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
    _projections(report, model, batch, component)
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
    if model.trace_ is None:
        _starts(report, model)
    else:
        _chain(report, model.trace_)
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
        Card("evidence lower bound, nats", model.elbo_, f"best of {len(model.starts_)} starts")
        if model.trace_ is None
        else Card("draws", model.n_iter_ - model.trace_.burn_in, f"after {model.trace_.burn_in}"),
    ]


def _verdicts(model: NoveltyClassifier) -> list[Verdict]:
    if model.trace_ is not None:
        return [
            Verdict(
                "Both halves of the chain look alike.",
                "holds" if model.converged_ else "fails",
                f"scale reduction {model.trace_.scale_reduction:.3f}",
            )
        ]
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


def _projections(report: Report, model: NoveltyClassifier, batch: Array, component: Index) -> None:
    """The batch on the axes that separate its components best, and on its longest ones."""
    j = len(model.classes_)
    sizes = np.bincount(component, minlength=j + 1)
    order = [k for k in np.argsort(-sizes) if k >= j and sizes[k]]
    own = {f"class {label}": component == k for k, label in enumerate(model.classes_)}
    own |= {f"novel {i}": component == k for i, k in enumerate(order[:SHOWN_CLUSTERS], 1)}
    rest = np.isin(component, order[SHOWN_CLUSTERS:])
    if bool(rest.any()):
        own["other novel"] = rest
    report.section("The batch").paragraph(
        "Rows of the batch by the component that claims them: first along the directions that tell "
        "these components apart best, then along those in which the rows spread most."
    )
    centred = batch - batch.mean(0)
    kinds = {
        "discriminant": discriminant_axes(batch, component, count=4),
        "principal": principal_axes(batch, count=4),
    }
    for kind, axes in kinds.items():
        for first in range(0, axes.shape[1] - 1, 2):
            plane = centred @ axes[:, first : first + 2]
            groups = {name: plane[rows] for name, rows in own.items()}
            names = [f"{kind} axis {i}" for i in (first + 1, first + 2)]
            report.figure(
                points_figure(groups, xlabel=names[0], ylabel=names[1]),
                f"The batch on {kind} axes {first + 1} and {first + 2}.",
            )


def discriminant_axes(rows: Array, group: Index, count: int = 2) -> Array:
    """[p, c] directions of the largest variance between groups over that within them.

    Args:
        rows: [M, p].
        group: [M].
        count: how many directions at most, >= 2; c is this, as far as groups less one and columns
            allow, and 2 at least. With one column the second direction is zero.
    """
    p = rows.shape[1]
    centred = rows - rows.mean(0)
    within, between = np.zeros((p, p)), np.zeros((p, p))
    groups = np.unique(group)
    for k in groups:
        own = centred[group == k]
        mean = own.mean(0)
        within += (own - mean).T @ (own - mean)
        between += len(own) * np.outer(mean, mean)
    within += 1e-6 * (np.trace(within) / p + 1e-12) * np.eye(p)
    root = np.linalg.inv(np.linalg.cholesky(within))
    _, vectors = np.linalg.eigh(root @ between @ root.T)
    count = max(2, min(count, p, len(groups) - 1))
    return _turned(root.T @ vectors[:, ::-1][:, :count])


def principal_axes(rows: Array, count: int = 2) -> Array:
    """[p, c] directions of the largest variance, c the count or p where that is less, 2 at least.

    Columns are brought to unit variance first, whose units are arbitrary.
    """
    spread = rows.std(0)
    spread[spread == 0] = 1.0
    scaled = (rows - rows.mean(0)) / spread
    _, vectors = np.linalg.eigh(scaled.T @ scaled)
    return _turned(vectors[:, ::-1][:, :count] / spread[:, None])


def _turned(axes: Array) -> Array:
    """Axes whose largest coordinate is positive, signs being free; a zero one beside a single."""
    if axes.shape[1] == 1:
        axes = np.concatenate([axes, np.zeros((len(axes), 1))], 1)
    signs = np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
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
        "Mean-field posteriors are too sure of themselves: read probabilities as a ranking."
        if model.trace_ is None
        else "P(novel) is the share of draws in which a row was of no known class.",
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
    sharp = np.clip(proba, LEAST, 1 - LEAST)
    wrong = -np.where(novel, np.log(sharp), np.log1p(-sharp))
    square = np.square(proba - novel)
    report.table(
        ["loss of P(novel)", "mean over rows"],
        [
            ["logarithmic, nats", from_samples(torch.from_numpy(wrong))],
            ["quadratic (Brier)", from_samples(torch.from_numpy(square))],
        ],
        "Both are proper: least for probabilities that are right. An uncertain 1/2 for every row "
        "has 0.69 and 0.25.",
    )
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


def _chain(report: Report, trace: Trace) -> None:
    sweeps = np.arange(1, len(trace.log_joint) + 1)
    report.section("Chain").paragraph(
        f"The first {trace.burn_in} of {len(sweeps)} sweeps are burn-in and are shown, but not "
        f"used. Potential scale reduction between both halves of the others: "
        f"{trace.scale_reduction:.3f}; it is near 1 where they look alike."
    )
    for values, label in ((trace.log_joint, "log joint, nats"), (trace.clusters, "clusters")):
        begun, kept = sweeps <= trace.burn_in, sweeps > trace.burn_in
        series = [
            Series(name, sweeps[own], values[own])
            for name, own in (("burn-in", begun), ("kept", kept))
            if bool(own.any())
        ]
        caption = "number of clusters" if label == "clusters" else "log joint of rows and labels"
        report.figure(
            line_figure(series, xlabel="sweeps", ylabel=label),
            f"Trace of the {caption} over the sweeps.",
        )
