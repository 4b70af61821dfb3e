"""Reports of fits and comparisons, drawn from what the runs recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from esscher.align.compare import FITS, fit_folder
from esscher.align.objectives import get_objective, is_objective
from esscher.align.options import CompareOptions, EvaluateOptions, FitOptions
from esscher.kit.runs.figures import Series, line_figure, scatter_path
from esscher.kit.runs.folder import Run
from esscher.kit.runs.record import Record
from esscher.kit.runs.report import Card, Report, Verdict
from esscher.kit.runs.text import format_value

__all__ = ["write_evaluation_report", "write_fit_report", "write_report"]

NEAR = 2.0
"""A model that ends within this multiple of the prior's distance shares the close view."""
Rows = Sequence[Mapping[str, Any]]
OUTCOMES: Mapping[str, Literal["holds", "fails", "open"]] = {
    "close to target": "holds",
    "under-optimised": "open",
    "weights degenerate": "fails",
    "support lost": "fails",
    "collapsed": "fails",
}
COLUMNS = {
    "satisfied": "satisfied",
    "kl_target_model": "KL(p*‖π) nats",
    "kl_gained": "KL gained nats",
    "kl_model_target": "KL(π‖p*) nats, floored",
    "kl_model_prior": "KL(π‖p0) nats",
    "tvd": "TVD",
    "entropy": "entropy nats",
    "distinct_2": "distinct-2",
    "length": "tokens",
    "ess": "ESS / n",
    "gold": "gold",
}


def write_report(run: Run, options: CompareOptions, numbers: Mapping[str, Any]) -> Path:
    """The report of a comparison: verdicts, numbers, paths, samples."""
    prior, results = numbers["prior"], numbers["objectives"]
    evidence = ", ".join([*options.condition, *filter(None, [options.reward]), *options.moments])
    report = Report(
        "How close did each objective come to the posterior?",
        f"prior {options.prior} × evidence {evidence or 'compiles'} → target p*",
    )
    report.cards(_cards(prior, results, numbers["sampler"]))
    report.section("Verdicts").paragraph(
        "Every verdict is taken against the target itself, on draws of the target that no model "
        "was trained on. A model's own draws cannot see the mass it has lost."
    )
    report.verdicts([_verdict(name, result) for name, result in results.items()])
    report.section("Numbers").table(
        ["model", *_columns(prior).values()],
        [_cells("prior p0", prior), *(_cells(name, r) for name, r in results.items())],
        f"Mean ± standard error; n = {options.n} draws of each model and of the target. KL(π‖p*) "
        f"counts a ruled-out text as log-weight -{options.floor:g} nats, because the exact value "
        "is infinite while any is drawn. KL gained is KL(p*‖p0) - KL(p*‖π) on the same draws, "
        "which share most of their noise.",
    )
    if options.seconds is not None:
        steps = ", ".join(f"{name} {result['steps']}" for name, result in results.items())
        report.paragraph(
            f"Every objective trained for {options.seconds:g} CPU seconds on one thread, which is "
            f"so many steps: {steps}. A pilot of a few steps says how many fit; measuring on the "
            "way does not count."
        )
    report.paragraph(_target_line(prior))
    _paths(report, run, options, prior, numbers.get("best_of_n"))
    if numbers["sampler"] is not None:
        _sampler(report, numbers["sampler"])
    report.section("What they write").paragraph(
        "Unselected first draws of each model, same seed."
    ).samples_side_by_side(numbers["samples"])
    _appendix(report, run)
    return report.write(run.path / "report.html")


def write_fit_report(run: Run, options: FitOptions, numbers: Mapping[str, Any]) -> Path:
    """The report of one fit."""
    minimises = get_objective(options.objective).minimises or "nothing about the target"
    report = Report(f"Fit by {options.objective}", f"prior {options.prior}; minimises {minimises}")
    report.verdicts([_verdict(options.objective, numbers)])
    report.table(
        ["model", *_columns(numbers).values()],
        [_cells(options.objective, numbers)],
        f"Mean ± standard error; n = {options.n} draws of the model and of the target.",
    )
    report.paragraph(_target_line(numbers))
    rows = {options.objective: run.metrics()}
    _figures(report, rows, numbers, options)
    _gold(report, rows, options, numbers.get("best_of_n"))
    texts = [f"{row.get('prompt', '')}{row['text']}" for row in run.samples()]
    report.section("What it writes").samples_side_by_side({options.objective: texts})
    _appendix(report, run)
    return report.write(run.path / "report.html")


def write_evaluation_report(run: Run, options: EvaluateOptions, numbers: Mapping[str, Any]) -> Path:
    """The report of one model measured against a target."""
    report = Report("How close is the model to the target?", f"prior {options.prior}")
    report.verdicts([_verdict(name, result) for name, result in numbers["objectives"].items()])
    report.table(
        ["model", *_columns(next(iter(numbers["objectives"].values()))).values()],
        [_cells(name, result) for name, result in numbers["objectives"].items()],
        f"Mean ± standard error; n = {options.n} draws of the model and of the target.",
    )
    report.paragraph(_target_line(next(iter(numbers["objectives"].values()))))
    if numbers["sampler"] is not None:
        _sampler(report, numbers["sampler"])
    report.section("What they write").samples_side_by_side(numbers["samples"])
    _appendix(report, run)
    return report.write(run.path / "report.html")


def _cards(
    prior: Mapping[str, Any], results: Mapping[str, Any], sampler: Mapping[str, Any] | None
) -> list[Card]:
    cards = [
        Card("prior draws that satisfy", prior["satisfied"], "Z for hard evidence"),
        Card("KL(p*‖p0), nats", prior["kl_target_prior"], "what doing nothing costs"),
    ]
    close = [(r["kl_target_model"]["mean"], name) for name, r in results.items()]
    known = [pair for pair in close if pair[0] is not None]
    if known:
        best = min(known)[1]
        cards.append(Card("lowest KL(p*‖π), nats", results[best]["kl_target_model"], best))
    if sampler is not None:
        note = f"TVD {format_value(sampler['tvd'], with_n=False)}, proposal {sampler['proposal']}"
        cards.append(Card("posterior sampler accepts", sampler["acceptance"], note))
    return cards


def _verdict(name: str, result: Mapping[str, Any]) -> Verdict:
    claim = name
    if is_objective(name):
        minimises = get_objective(name).minimises
        claim = f"{name}: minimises {minimises}" if minimises else f"{name}: ignores the target"
    word = result["verdict"]
    return Verdict(claim, OUTCOMES[word], result["reason"], word=word)


def _cells(name: str, result: Mapping[str, Any]) -> list[object]:
    return [name, *(_short(result[key]) for key in _columns(result))]


def _columns(result: Mapping[str, Any]) -> dict[str, str]:
    """What the table shows; gold only where there is such a judge."""
    return {key: name for key, name in COLUMNS.items() if result.get(key) is not None}


def _short(estimate: Mapping[str, Any]) -> str:
    return format_value(estimate, with_n=False)


def _target_line(numbers: Mapping[str, Any]) -> str:
    source = {
        "exact": "exact draws of the target (rejection from the prior)",
        "enumerated": "all outcomes, enumerated",
        "weighted": "importance-weighted draws of the prior",
    }[numbers["reference"]]
    entropy, log_z = format_value(numbers["entropy_target"]), format_value(numbers["log_z"])
    return (
        f"The target has entropy {entropy} nats and log Z {log_z}. It is measured on {source}. "
        "A posterior can be shorter and of lower entropy than its prior, so collapse is judged "
        "against the target, never against the prior."
    )


def _paths(
    report: Report,
    run: Run,
    options: CompareOptions,
    prior: Mapping[str, Any],
    curve: Rows | None,
) -> None:
    rows = {}
    for objective in options.objectives:
        folder = fit_folder(run.path / FITS / objective)
        rows[objective] = [] if folder is None else Record(folder).metrics()
    _figures(report, rows, prior, options)
    _gold(report, rows, options, curve)


def _figures(
    report: Report, rows: Mapping[str, Rows], target: Mapping[str, Any], options: FitOptions
) -> None:
    batch = options.batch or 1
    unit = "training draws" if options.batch else "steps"
    report.section("On the way")
    band = "Bands are ±1.96 standard errors over n = 250 draws of each law."

    def over(name: str) -> list[Series]:
        return [
            _series(label, r, name, batch, style)
            for style, (label, r) in enumerate(rows.items())
            if _watched(r)
        ]

    distance = target["kl_target_prior"]["mean"]
    _distances(report, over, distance, unit, band)
    figures = (
        ("entropy", "entropy of π, nats", {"target": target["entropy_target"]["mean"]}),
        ("distinct_2", "distinct-2 (64 draws)", None),
        ("ess", "ESS / n of P/π", None),
    )
    for name, label, reference in figures:
        figure = line_figure(over(name), xlabel=unit, ylabel=label, reference=reference)
        report.figure(figure, f"{label} against {unit}. {band}")
    name, label, said = "satisfied", "share satisfied", "Share of draws that satisfy the evidence"
    if target["satisfied"]["mean"] == 1.0:
        name, label, said = "log_weight", "evidence, nats", "Mean log-weight of the evidence"
    paths = [_path(own, r, name, i) for i, (own, r) in enumerate(rows.items()) if _watched(r)]
    figure = scatter_path(paths, xlabel="KL(π‖p0), nats", ylabel=label)
    report.figure(
        figure,
        f"{said} against the distance paid for it; the largest marker is the end. Bars are ±1.96 "
        "standard errors over n = 250 draws. Going right "
        "without need is the price of collapse.",
    )


def _gold(
    report: Report, rows: Mapping[str, Rows], options: FitOptions, curve: Rows | None
) -> None:
    """Gold and proxy on the way, against the square root of the divergence paid for them."""
    if options.gold is None:
        return
    best = None
    if curve:
        best = Series(
            "best of n prior draws",
            [max(0.0, row["kl"]["mean"]) ** 0.5 for row in curve],
            [row["gold"]["mean"] for row in curve],
        )
    judges = (("gold", f"gold: {options.gold}", best), ("log_weight", "evidence, nats", None))
    for name, label, frontier in judges:
        paths = [_path(own, r, name, i, 0.5) for i, (own, r) in enumerate(rows.items())]
        report.figure(
            scatter_path(paths, xlabel="√KL(π‖p0), √nats", ylabel=label, frontier=frontier),
            f"{label} against √KL(π‖p0); the largest marker is the end. Where the evidence still "
            "rises and gold falls, the fit has begun to exploit the evidence. Bars are ±1.96 "
            "standard errors over n = 250 draws.",
        )


def _distances(
    report: Report, over: Callable[[str], list[Series]], prior: float, unit: str, band: str
) -> None:
    """What training gains on the way; models that end far away only show on a log axis."""
    distances = over("kl_target_model")
    far = [s.label for s in distances if float(np.asarray(s.y)[-1]) > NEAR * prior]
    near = [s for s in over("kl_gained") if s.label not in far]
    if near:
        label = "KL(p*‖p0) - KL(p*‖π), nats"
        left_out = f" Without {', '.join(far)}, shown below." if far else ""
        figure = line_figure(near, xlabel=unit, ylabel=label, reference={"prior": 0.0})
        report.figure(
            figure,
            f"What is gained of the prior's {prior:.3g} nats, against {unit}; higher is better. "
            f"Both terms are taken on the same draws of the target.{left_out} {band}",
        )
    if far:
        label = "KL(p*‖π), nats"
        reference = {"prior": prior}
        figure = line_figure(distances, xlabel=unit, ylabel=label, reference=reference, log_y=True)
        report.figure(figure, f"{label} against {unit}, all models. Logarithmic axis. {band}")


def _watched(rows: Rows) -> list[Mapping[str, Any]]:
    return [row for row in rows if row.get("watch_kl_target_model") is not None]


def _series(label: str, rows: Rows, name: str, batch: int, style: int) -> Series:
    kept = [row for row in _watched(rows) if _value(row, name) is not None]
    return Series(
        label,
        [row["step"] * batch for row in kept],
        [_value(row, name) or 0.0 for row in kept],
        [_value(row, name, "se") or 0.0 for row in kept],
        style,
    )


def _path(label: str, rows: Rows, name: str, style: int, power: float = 1.0) -> Series:
    """A number of the watched rows against KL(π‖p0) to a power."""
    kept = [row for row in _watched(rows) if _value(row, name) is not None]
    return Series(
        label,
        [max(0.0, _value(row, "kl_model_prior") or 0.0) ** power for row in kept],
        [_value(row, name) or 0.0 for row in kept],
        [_value(row, name, "se") or 0.0 for row in kept],
        style,
    )


def _value(row: Mapping[str, Any], name: str, part: str = "mean") -> float | None:
    """A watched number of a row; rows on disk are flat, rows in memory hold estimates."""
    entry = row[f"watch_{name}"]
    if isinstance(entry, Mapping):
        return entry[part]  # type: ignore[no-any-return]
    return entry if part == "mean" else row.get(f"watch_{name}_{part}")


def _sampler(report: Report, sampler: Mapping[str, Any]) -> None:
    report.section("Drawing from the posterior").paragraph(
        f"Quasi-rejection with {sampler['proposal']} as the proposal accepts "
        f"{format_value(sampler['acceptance'])} of its draws at total variation "
        f"{format_value(sampler['tvd'])} to the target; {sampler['n_proposed']} were proposed."
    )
    curve = sampler["curve"]
    series = Series(
        sampler["proposal"], [r["tvd"] for r in curve], [r["acceptance"] for r in curve]
    )
    report.figure(
        scatter_path([series], xlabel="total variation to the target", ylabel="acceptance"),
        "Acceptance against what is left of the total variation, for rising bounds, from one set "
        "of n = 2,000 proposals. The upper left corner is best.",
    )


def _appendix(report: Report, run: Run) -> None:
    report.section("How it was made")
    report.details("Configuration", (run.path / "config.toml").read_text(encoding="utf-8"))
    report.details("Environment", json.dumps(run.env(), indent=2))
