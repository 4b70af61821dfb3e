"""The demonstration: where the mean of two policies goes wrong, and what puts it right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from esscher.core.estimate import Estimate
from esscher.kit.rl.evaluate import seed_estimate
from esscher.kit.runs.figures import Series, line_figure
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output
from esscher.kit.runs.report import Card, Report, Verdict
from esscher.offline.options import DemoOptions
from esscher.offline.pictures import (
    density_figure,
    policy_figure,
    trajectory_figure,
    weight_figure,
)
from esscher.offline.problems.bandit import bandit_data
from esscher.offline.problems.point_mass import point_mass_data
from esscher.offline.study import (
    BANDIT_SIZE,
    POINT_MASS_SIZE,
    Study,
    bandit_study,
    point_mass_study,
    small_methods,
)

__all__ = ["run_demo"]

BANDIT = ("narrow_return", "narrow_ood", "wide_return")
POINT_MASS = ("collision_rate", "return_ratio")
SHOWN_STATE = -0.5
Told = dict[str, dict[str, Estimate]]


def run_demo(options: DemoOptions, run: Run, output: Output) -> dict[str, Any]:
    """Both problems, the report, and the numbers others script against.

    Returns:
        {"report", "run", "bandit": {method: {score: estimate}}, "point_mass": the same}.
    """
    seeds = range(options.seed, options.seed + options.seeds)
    bandit = bandit_study(small_methods(BANDIT_SIZE, 1.0), seeds, output.say)
    methods = small_methods(POINT_MASS_SIZE, 2.5)
    del methods["td3_rkl_unweighted"]
    point = point_mass_study(methods, seeds, output.say)
    told = {"bandit": bandit.estimates(BANDIT), "point_mass": point.estimates(POINT_MASS)}
    report = _write(run, options, bandit, point, told)
    run.finish(told)
    return {"report": str(report), "run": str(run.path), **told}


def _write(
    run: Run, options: DemoOptions, bandit: Study, point: Study, told: dict[str, Told]
) -> Path:
    report = Report(
        "The mean of two good policies is a bad one",
        f"offline learning from the logs of several policies at once, {options.seeds} seeds",
    )
    ours, mean = told["bandit"]["td3_rkl"], told["bandit"]["bc"]
    crash = {name: told["point_mass"][name]["collision_rate"] for name in ("bc", "td3_rkl")}
    report.cards(
        [
            Card("bandit, out of distribution: cloning", mean["narrow_ood"], "of narrow states"),
            Card("… reverse KL", ours["narrow_ood"], "of narrow states"),
            Card("point mass, collisions: cloning", crash["bc"], "of episodes"),
            Card("… reverse KL", crash["td3_rkl"], "of episodes"),
        ]
    )
    report.verdicts(_verdicts(told))
    _bandit_part(report, options, bandit, told["bandit"])
    _point_part(report, options, point, told["point_mass"])
    report.section("How it was made")
    report.details("Configuration", (run.path / "config.toml").read_text(encoding="utf-8"))
    report.details("Environment", json.dumps(run.env(), indent=2))
    return report.write(run.path / "report.html")


def _verdicts(told: Mapping[str, Told]) -> list[Verdict]:
    bandit, point = told["bandit"], told["point_mass"]
    rows = [
        ("Cloning acts between the modes.", bandit["bc"]["narrow_ood"], 0.95, True),
        ("The reverse KL stays on a mode.", bandit["td3_rkl"]["narrow_ood"], 0.02, False),
        ("It takes the better mode.", bandit["td3_rkl"]["narrow_return"], 0.97, True),
        ("Cloning two experts hits the obstacle.", point["bc"]["collision_rate"], 0.8, True),
        ("The reverse KL gets past it.", point["td3_rkl"]["collision_rate"], 0.05, False),
        ("Its return is near the optimum.", point["td3_rkl"]["return_ratio"], 0.95, True),
    ]
    found = []
    for claim, value, bound, above in rows:
        holds = value.mean >= bound if above else value.mean <= bound
        outcome: Literal["holds", "fails"] = "holds" if holds else "fails"
        sign = "≥" if above else "≤"
        found.append(Verdict(claim, outcome, f"{value}, asked for {sign} {bound:g}"))
    return found


def _bandit_part(report: Report, options: DemoOptions, study: Study, told: Told) -> None:
    dataset = bandit_data(seed=options.seed)
    report.section("A bandit with two thin modes on its left")
    report.paragraph(
        "Left of 0 the logs hold two slivers of actions, the upper one worth 1, the lower 0.6, and "
        "what lies between worth nothing. Right of 0 they hold every action, and 0.8 is best. "
        "Squared distance to the data is least at the mean of both slivers, the reverse KL on a "
        "sliver. All learners weigh Q alike (α = 1)."
    )
    report.figure(
        policy_figure(dataset, study.first),
        "Dots are the logs, lines what each learner does. Cloning runs between the slivers, where "
        "no policy ever acted.",
    )
    report.figure(
        density_figure(study.first, SHOWN_STATE),
        "The behaviour density that the reverse KL sees in one narrow state, and each learner's "
        "action in it.",
    )
    report.figure(
        weight_figure(study.first["td3_rkl"]),
        "The weight is large where the behaviour leaves little room, small where it leaves much; "
        "the variance of the actions would say the opposite.",
    )
    report.table(
        ["method", "return, narrow", "out of distribution, narrow", "return, wide"],
        [[m, *(rows[name] for name in BANDIT)] for m, rows in told.items()],
        "Means over seeds; 1 is the best return.",
    )


def _point_part(report: Report, options: DemoOptions, study: Study, told: Told) -> None:
    dataset = point_mass_data(seed=options.seed)
    report.section("A point mass, and experts that pass left or right")
    report.figure(
        trajectory_figure(dataset, study.first, options.seed),
        "Dots are the experts' logs, lines ten episodes of each learner. The mean of left and "
        "right is straight ahead, into the obstacle.",
    )
    report.figure(
        line_figure(
            [_curve(name, study) for name in study.first],
            xlabel="gradient steps",
            ylabel="collision rate",
        ),
        "Share of 50 episodes that end in the obstacle, of the first seed, while training.",
    )
    report.table(
        ["method", "collision rate", "return / optimum"],
        [[m, *(rows[name] for name in POINT_MASS)] for m, rows in told.items()],
        "The optimum is that of value iteration on a grid, run from the same starts.",
    )
    report.table(
        ["method", "Q at the start", "discounted return there"],
        [
            [name, *(seed_estimate([row[key] for row in rows]) for key in _PROMISES)]
            for name, rows in study.scores.items()
            if "q_start" in rows[0]
        ],
        "What the critic promises against what comes; means over seeds. A critic that promises "
        "more has been asked about actions that are not in the data.",
    )


_PROMISES: Sequence[str] = ("q_start", "value_start")


def _curve(name: str, study: Study) -> Series:
    history = study.first[name].history
    steps = np.array([row["step"] for row in history], dtype=np.float64)
    return Series(name, steps, np.array([row["collision_rate"] for row in history]))
