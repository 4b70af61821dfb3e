"""Reports of fits, comparisons and data sets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esscher.core.estimate import Estimate
from esscher.kit.rl.evaluate import seed_estimate
from esscher.kit.runs.figures import Series, bar_with_errors, line_figure
from esscher.kit.runs.folder import Run
from esscher.kit.runs.report import Card, Missing, Report
from esscher.kit.runs.seeds import Streams
from esscher.offline.data import MixedDataset
from esscher.offline.densities.fit import calibration_levels
from esscher.offline.diagnose import StartValue, chosen_states, state_weights
from esscher.offline.pictures import action_figure, spread_figure
from esscher.offline.prepare import Prepared
from esscher.offline.training import FitResult

__all__ = ["compare_report", "fit_report", "inspect_report"]

CALIBRATED_ROWS = 2000
BINS = 20


def fit_report(
    run: Run, dataset: MixedDataset, result: FitResult, values: StartValue | None
) -> Path:
    """What one fit learnt, step by step, and what its critic promised."""
    report = Report("A policy from logs", f"{len(dataset)} transitions, {run.config()['method']}")
    last = result.history[-1]
    value = last.get("return", Missing("no environment to evaluate in"))
    promise = Missing("no critic, or no environment") if values is None else values.promised
    report.cards([Card("return", value), Card("Q at the start", promise)])
    _provenance(report, dataset)
    steps = [row["step"] for row in result.history]
    if "return" in last:
        mean = [row["return"]["mean"] for row in result.history]
        se = [row["return"]["se"] or 0.0 for row in result.history]
        report.section("Learning").figure(
            line_figure(
                [Series("return", steps, mean, se)], xlabel="gradient steps", ylabel="return"
            ),
            "Return of the policy while it learns, with ±1.96 standard errors over episodes.",
        )
    names = [n for n in ("q", "regulariser", "critic_loss") if n in last]
    for name in names:
        known = [(row["step"], row[name]) for row in result.history if name in row]
        curve = Series(name, [k for k, _ in known], [v for _, v in known])
        report.figure(line_figure([curve], xlabel="gradient steps", ylabel=name), _MEANING[name])
    method = str(run.config()["method"])
    _promises(report, {} if values is None else {method: [values]})
    _behaviour(report, dataset, {method: result}, run.env()["seed"])
    return _finished(report, run)


_MEANING = {
    "q": "What the first critic says of the data's own actions.",
    "regulariser": "Distance of the policy from the data, as the regulariser measures it.",
    "critic_loss": "Squared error of both critics. Unending growth means that values diverge.",
}


def compare_report(
    run: Run,
    dataset: MixedDataset,
    fits: Mapping[str, Sequence[FitResult]],
    told: Mapping[str, Mapping[str, Estimate]],
    values: Mapping[str, Sequence[StartValue]],
) -> Path:
    """Several learners side by side."""
    seeds = len(next(iter(fits.values())))
    report = Report("Learners on one data set", f"{len(dataset)} transitions, {seeds} seeds")
    _provenance(report, dataset)
    report.section("Returns")
    if told:
        report.figure(
            bar_with_errors(
                list(told),
                [rows["return"].mean for rows in told.values()],
                [rows["return"].se if seeds > 1 else 0.0 for rows in told.values()],
                xlabel="return",
            ),
            "Mean of the last three evaluations, with ±1.96 standard errors over seeds.",
        )
        report.figure(
            line_figure(
                [_over_seeds(name, results) for name, results in fits.items()],
                xlabel="gradient steps",
                ylabel="return",
            ),
            "Returns while training, with ±1.96 standard errors over seeds.",
        )
    report.table(
        ["method", "return"],
        [
            [name, told[name]["return"] if name in told else Missing("no environment")]
            for name in fits
        ],
    )
    _promises(report, values)
    first = {name: results[0] for name, results in fits.items()}
    _behaviour(report, dataset, first, run.env()["seed"])
    return _finished(report, run)


def inspect_report(
    run: Run, dataset: MixedDataset, data: Prepared, found: Mapping[str, Any]
) -> Path:
    """Who did what, and where the data are narrow."""
    report = Report("What the logs cover", f"{len(dataset)} transitions, {dataset.env or 'data'}")
    report.cards(
        [
            Card("median entropy per action dimension, nats", found["entropy"]["50%"]),
            Card("states with more than one mode", _several(found), "share"),
            Card(
                "policy out of distribution",
                found.get("ood_rate", Missing("no policy given")),
                "share of states",
            ),
        ]
    )
    _provenance(report, dataset, {row["policy"]: row["entropy"] for row in found["policies"]})
    report.section("The behaviour density")
    density = found["density"]
    report.table(
        ["-log π_b, training data", "-log π_b, held-out data", "gradient steps"],
        [[density["train_nll"], density["held_out_nll"], density["steps"]]],
        "Nats per transition. A gap means that the density knows its data by heart.",
    )
    assert data.density is not None
    rng = Streams(run.env()["seed"]).torch("calibration")
    batch = data.replay.sample(CALIBRATED_ROWS, rng)
    level = np.sort(calibration_levels(data.density, batch.obs, batch.action, rng))
    share = (np.arange(len(level)) + 0.5) / len(level)
    report.figure(
        line_figure(
            [
                Series("fitted density", share, level),
                Series("calibrated", np.array([0.0, 1.0]), np.array([0.0, 1.0])),
            ],
            xlabel="share of the data's actions",
            ylabel="share of draws less likely",
        ),
        "Of each action in the data, the share of draws from the density that are less likely: "
        "uniform, and so on the diagonal, where the density is right.",
    )
    entropy = data.entropy
    if entropy is not None:
        scaled = (entropy / data.replay.action_dim).double().numpy()
        height, edges = np.histogram(scaled, bins=BINS, density=True)
        report.figure(
            line_figure(
                [Series("states", (edges[1:] + edges[:-1]) / 2, height)],
                xlabel="entropy per action dimension, nats",
                ylabel="density of states",
            ),
            "How much room the behaviour leaves, over the states of the data.",
        )
    return _finished(report, run)


def _promises(report: Report, values: Mapping[str, Sequence[StartValue]]) -> None:
    """Q at the first states beside the discounted return from them."""
    if not values:
        return
    rows: list[list[object]] = []
    for name, found in values.items():
        if len(found) == 1:
            promised, kept = found[0]
            gap = Estimate(promised.mean - kept.mean, float(np.hypot(promised.se, kept.se)), kept.n)
        else:
            promised, kept, gap = (
                seed_estimate(column)
                for column in (
                    [v.promised.mean for v in found],
                    [v.kept.mean for v in found],
                    [v.promised.mean - v.kept.mean for v in found],
                )
            )
        rows.append([name, promised, kept, gap])
    report.section("What the critic promises, and what comes").table(
        ["method", "Q at the start", "discounted return", "over-estimation"],
        rows,
        "Means over first states, ± standard errors over episodes of one fit or over the seeds of "
        "several. Nothing is counted after a time limit. A critic that promises more has been "
        "asked about actions that are not in the data.",
    )


def _behaviour(
    report: Report, dataset: MixedDataset, fits: Mapping[str, FitResult], seed: int
) -> None:
    """Actions against the density in chosen states, and the weights of states."""
    known = next((r for r in fits.values() if r.data.density is not None), None)
    if known is None:
        return
    report.section("What was done there, and what is done now").figure(
        action_figure(chosen_states(known.data, seed), fits),
        "Actions in three states of the data, from narrow to wide behaviour, in units of half the "
        "box. A policy between the modes acts as nobody did.",
    )
    weight = state_weights(known)
    if weight is not None and len(weight) == len(dataset):
        report.figure(
            spread_figure(dataset, weight),
            "How strongly the regulariser counts: the weight's distribution over states, by the "
            "policy that was there. Its mean over all states is 1.",
        )


def _several(found: Mapping[str, Any]) -> object:
    modes = found.get("modes")
    if modes is None:
        return Missing("the density has no components")
    return 1 - float(modes.get("1", 0.0))


def _provenance(
    report: Report, dataset: MixedDataset, entropy: Mapping[str, Any] | None = None
) -> None:
    head = ["policy", "transitions", "share", "episodes", "mean return"]
    rows: list[list[object]] = [
        [r["policy"], r["transitions"], r["share"], r["episodes"], r["mean_return"]]
        for r in dataset.provenance()
    ]
    if entropy is not None:
        head.append("entropy, nats")
        rows = [[*row, entropy.get(str(row[0]))] for row in rows]
    report.section("Who did what").table(head, rows)


def _over_seeds(name: str, results: Sequence[FitResult]) -> Series:
    table = np.array([[row["return"]["mean"] for row in r.history] for r in results])
    steps = [row["step"] for row in results[0].history]
    n = len(results)
    se = table.std(0, ddof=1) / np.sqrt(n) if n > 1 else None
    return Series(name, steps, table.mean(0), se)


def _finished(report: Report, run: Run) -> Path:
    report.section("How it was made")
    report.details("Configuration", (run.path / "config.toml").read_text(encoding="utf-8"))
    report.details("Environment", json.dumps(run.env(), indent=2))
    return report.write(run.path / "report.html")
