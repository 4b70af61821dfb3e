"""Two small searches that show where simpler rules lose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esscher.kit.runs.output import Output
from esscher.pandora.box import Box
from esscher.pandora.families import tight
from esscher.pandora.instance import PandoraInstance
from esscher.pandora.solve import solve

if TYPE_CHECKING:
    from esscher.kit.runs.folder import Run

__all__ = ["hiring", "write_demo"]

HEIGHTS = (10.0, 100.0, 1000.0, 100_000.0)


def hiring() -> PandoraInstance:
    """Five applicants, the worth of a year with each in k€, and what a trial week costs.

    B is a gamble, and it takes a long trial to see how it ends. The others seldom suit, which
    shows quickly.
    """
    return PandoraInstance(
        [
            Box([0, 300], [0.9, 0.1], 15, "B"),
            Box([0, 30, 38], [0.85, 0.1, 0.05], 2, "A"),
            Box([0, 34, 45], [0.7, 0.25, 0.05], 0.5, "C"),
            Box([0, 28, 38], [0.85, 0.1, 0.05], 1, "D"),
            Box([0, 30, 45], [0.7, 0.15, 0.15], 1, "E"),
        ]
    )


def write_demo(run: Run, output: Output, plays: int, seed: int) -> tuple[Path, dict[str, Any]]:
    """Solve both examples, play the policies, and write the report of a run.

    Returns:
        Its path, and the numbers in it.
    """
    from esscher.kit.runs.report import Report  # noqa: PLC0415 - drawing takes seconds to load
    from esscher.pandora.report import add_instance  # noqa: PLC0415

    numbers: dict[str, Any] = {}
    report = Report(
        "Which boxes to open, and when to stop",
        "Looking costs money; whoever has not been looked at may still be taken.",
    )
    cases = (
        ("hiring", hiring(), "k€", "Five applicants", HIRING),
        ("tight", tight(height=20.0), "", "Two boxes", TIGHT),
    )
    for name, instance, unit, title, text in cases:
        result = solve(instance, eps=0.0)
        report.section(title).paragraph(text)
        played = add_instance(report, instance, result, unit=unit, plays=plays, seed=seed)
        numbers[name] = {
            "value": result.value,
            "weitzman": result.weitzman,
            "committing": result.committing,
            "order": list(result.policy.order),
            "backup": result.policy.backup,
            "simulated": {policy: sim.payoff.to_json() for policy, sim in played.items()},
        }
        output.say(f"{name}: {result.value:.4g}, Weitzman's rule {result.weitzman:.4g}")
    report.section("As the prize grows").table(
        ["large value H", "optimum", "committing", "Weitzman", "committing / optimum"],
        _growing(),
        "The example of two boxes with a rarer and larger prize: no commitment is worth more than "
        "2, while the optimum is 2.5 - 2 / H. The ratio falls to 0.8, below which none can be.",
    )
    report.section("How it was made")
    report.details("Configuration", (run.path / "config.toml").read_text(encoding="utf-8"))
    report.details("Environment", json.dumps(run.env(), indent=2))
    return report.write(run.path / "report.html"), numbers


HIRING = (
    "Each box below is an applicant. Its value is what a year with them is worth, its cost that of "
    "a trial week, and one of them can be hired, with or without a trial."
)
TIGHT = (
    "A is free to open and holds 0 or 2. B costs 1 to open and holds 0 or, rarely, 20, which is "
    "worth 2 on average. Where A shows 2, B is worth a look; where it shows 0, B is better taken "
    "unseen, as its 2 on average are sure to be taken then. No rule that decides about B "
    "beforehand does both."
)


def _growing() -> list[list[float]]:
    rows = []
    for height in HEIGHTS:
        found = solve(tight(height=height), eps=0.0)
        ratio = found.committing / found.value
        rows.append([height, found.value, found.committing, found.weitzman, ratio])
    return rows
