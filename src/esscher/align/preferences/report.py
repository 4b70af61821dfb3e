"""The report of a fit to preferences, drawn from what the run recorded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from esscher.align.preferences.options import REWARD_MODEL, PreferOptions
from esscher.kit.runs.figures import Series, line_figure, scatter_path
from esscher.kit.runs.folder import Run
from esscher.kit.runs.report import Card, Report, Verdict

__all__ = ["write_preference_report"]

CURVES = {
    "held_out_loss": "held-out loss, nats",
    "held_out_accuracy": "held-out accuracy",
    "held_out_margin": "held-out margin of the preferred text",
    "kl_prior": "KL(π‖p0), nats",
}
LOSSES = {"ipo": "held-out loss, nats²"}
GUESSING = {"held_out_loss": math.log(2), "held_out_accuracy": 0.5}


def write_preference_report(run: Run, options: PreferOptions, numbers: Mapping[str, Any]) -> Path:
    """The report of one fit: verdicts, numbers, learning curves, calibration, texts."""
    what = "A reward" if options.method == REWARD_MODEL else "A policy"
    n = numbers["pairs"]
    report = Report(
        f"{what} learnt from preferences by {options.method}",
        f"prior {options.prior}; {n['train']} pairs to train on, {n['held_out']} held out",
    )
    report.cards(_cards(numbers)).verdicts(_verdicts(numbers))
    report.paragraph(f"With infinitely many Bradley-Terry pairs the optimum is {_optimum(numbers)}")
    report.paragraph(numbers["stopped"] or f"The model is that of step {numbers['step']}.")
    report.section("On the way")
    _curves(report, run.metrics(), options)
    if numbers["calibration"]:
        _calibration(report, numbers)
    texts = [f"{row.get('prompt', '')}{row['text']}" for row in run.samples()]
    if texts:
        report.section("What it writes").samples_side_by_side({options.method: texts})
    report.section("How it was made")
    report.details("Configuration", (run.path / "config.toml").read_text(encoding="utf-8"))
    report.details("Environment", json.dumps(run.env(), indent=2))
    return report.write(run.path / "report.html")


def _cards(numbers: Mapping[str, Any]) -> list[Card]:
    interval = f"95 % in [{numbers['accuracy_low']:.3f}, {numbers['accuracy_high']:.3f}]"
    cards = [Card("held-out accuracy", numbers["accuracy"], interval)]
    if numbers["log_loss"] is not None:
        cards.append(Card("held-out log loss, nats", numbers["log_loss"], "guessing costs 0.693"))
        error = numbers["calibration_error"]
        cards.append(Card("expected calibration error", error, "biased up by noise in the bins"))
    if "kl_prior" in numbers:
        cards.append(Card("KL(π‖p0), nats", numbers["kl_prior"], "what agreeing has cost"))
    return cards


def _verdicts(numbers: Mapping[str, Any]) -> list[Verdict]:
    low, high = numbers["accuracy_low"], numbers["accuracy_high"]
    claim = "It tells held-out pairs apart better than a coin."
    detail = f"accuracy in [{low:.3f}, {high:.3f}] at 95 %"
    verdicts = [Verdict(claim, _outcome(low - 0.5, high - 0.5), detail)]
    loss = numbers["log_loss"]
    if loss is not None and loss["se"] is not None:
        gain, half = math.log(2) - loss["mean"], 1.96 * loss["se"]
        claim = "Its probabilities are worth more than ½ for every pair."
        detail = f"log loss {loss['mean']:.3f} ± {loss['se']:.3f} nats against 0.693"
        verdicts.append(Verdict(claim, _outcome(gain - half, gain + half), detail))
    return verdicts


def _outcome(low: float, high: float) -> Literal["holds", "fails", "open"]:
    """Whether a number that lies in [low, high] is positive."""
    if low > 0:
        return "holds"
    return "fails" if high < 0 else "open"


def _optimum(numbers: Mapping[str, Any]) -> str:
    minimises = numbers["minimises"]
    zero = f" There {minimises} is zero." if minimises else " That is not a target of the reward."
    return f"{numbers['optimum']}." + zero


def _curves(report: Report, rows: Sequence[Mapping[str, Any]], options: PreferOptions) -> None:
    for name, usual in CURVES.items():
        seen = [row for row in rows if row.get(name) is not None]
        if not seen:
            continue
        label = LOSSES.get(options.method, usual) if name == "held_out_loss" else usual
        series = Series(
            options.method,
            [row["step"] for row in seen],
            [row[name] for row in seen],
            [row.get(f"{name}_se") or 0.0 for row in seen],
        )
        known = name in GUESSING and not (name == "held_out_loss" and options.method in LOSSES)
        level = {"guessing": GUESSING[name]} if known else None
        report.figure(
            line_figure([series], xlabel="steps", ylabel=label, reference=level),
            f"{label} against steps. Bands are ±1.96 standard errors.",
        )


def _calibration(report: Report, numbers: Mapping[str, Any]) -> None:
    bins = numbers["calibration"]
    report.section("Calibration").table(
        ["probability of the favourite", "pairs", "predicted", "preferred"],
        [
            [f"{b['low']:.2f} to {b['high']:.2f}", b["n"], b["predicted"], b["observed"]]
            for b in bins
        ],
        "Every held-out pair once, from the side that the model favours.",
    )
    points = Series(
        "held-out pairs",
        [b["predicted"]["mean"] for b in bins],
        [b["observed"]["mean"] for b in bins],
        [b["observed"]["se"] or 0.0 for b in bins],
    )
    report.figure(
        scatter_path(
            [points],
            xlabel="predicted probability of the favourite",
            ylabel="share in which it was preferred",
            frontier=Series("calibrated", [0.5, 1.0], [0.5, 1.0]),
        ),
        "Share of favourites that were preferred against what was predicted. Points below the line "
        "are overconfident. Bars are ±1.96 standard errors; the number of pairs is in the table.",
    )
