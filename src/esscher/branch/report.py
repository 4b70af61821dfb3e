"""Reports of comparisons: sizes of trees, times, trees as pictures, learning curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.branch.drawing import tree_figure
from esscher.branch.grid import Grid
from esscher.branch.named import policy_folder
from esscher.branch.rows import Row
from esscher.branch.statistics import Ratio
from esscher.branch.summary import Summary
from esscher.branch.tree import SearchTree
from esscher.errors import EsscherError
from esscher.kit.runs.figures import Series, bar_with_errors, line_figure
from esscher.kit.runs.folder import Run
from esscher.kit.runs.record import Record
from esscher.kit.runs.report import Card, Missing, Report, Verdict
from esscher.kit.runs.text import format_value

__all__ = ["CURVE", "LOG", "Drawn", "compare_report", "learning_curves", "profile"]

CURVE = "nodes_gmean"
"""Metric of a fit's run that is drawn as its learning curve: nodes on validation instances."""
LOG = "log2_nodes"
"""Metric beside it: the mean of their logarithms to base 2, whose standard error is the band's."""
LN2 = float(np.log(2))
FACTORS = 10.0
"""The greatest factor in the profile."""
SHOWN_NODES = 250


class Drawn(NamedTuple):
    """A tree and its trajectories, as they are drawn."""

    tree: SearchTree
    paths: Sequence[NDArray[np.int64]]


def compare_report(
    run: Run,
    rows: Sequence[Row],
    summaries: Mapping[str, Summary],
    *,
    base: str,
    instance: str = "",
    drawn: Mapping[str, Drawn] | None = None,
    curves: Sequence[Series] = (),
) -> Path:
    """Write `report.html` of a comparison into its run folder.

    Args:
        run: of the comparison.
        rows: every solve.
        summaries: of these, by policy.
        base: policy that the others were held against.
        instance: whose trees are drawn.
        drawn: the trees, by policy.
        curves: learning curves of fitted policies.

    Returns:
        Path of the report.
    """
    grid = Grid.of(rows)
    report = Report(
        "Branching policies side by side",
        f"{len(grid.instances)} instances, {len(grid.seeds)} "
        f"{'seed' if len(grid.seeds) == 1 else 'seeds'}, {len(rows)} solves",
    )
    report.cards(_cards(grid, summaries, base))
    report.verdicts(_verdicts(grid, summaries, base))
    _sizes(report, grid, summaries, base)
    _times(report, summaries, base)
    _trees(report, instance, drawn or {})
    if curves:
        report.section("Learning").figure(
            line_figure(curves, xlabel="step", ylabel="nodes, geometric mean", log_y=True),
            "Trees on validation instances while the fitted policies learnt.",
        )
    report.section("How it was made")
    report.details("Configuration", (run.path / "config.toml").read_text(encoding="utf-8"))
    report.details("Environment", json.dumps(run.env(), indent=2))
    return report.write(run.path / "report.html")


def learning_curves(policies: Mapping[str, str]) -> list[Series]:
    """Nodes on validation instances by step, of the policies that lie in the run of their fit.

    Args:
        policies: names or folders, by label.
    """
    found = []
    for label, name in policies.items():
        folder = policy_folder(Path(name))
        if not Path(name).is_dir():
            continue
        try:
            rows = Record(folder.resolve().parent).metrics()
        except EsscherError:
            continue
        known = [row for row in rows if row.get(CURVE) is not None]
        if known:
            steps, nodes = [row["step"] for row in known], [row[CURVE] for row in known]
            se = [n * LN2 * (r.get(f"{LOG}_se") or 0.0) for n, r in zip(nodes, known, strict=True)]
            found.append(Series(label, steps, nodes, se))
    return found


def profile(grid: Grid, most: float = FACTORS) -> list[Series]:
    """Of every policy, the share of solves that need at most so many times the fewest nodes.

    Solves that a limit ended never count. Fair nodes are taken where they are known.

    Reference:
        Dolan, Moré (2002).
    """
    counted = np.where(grid.ended, np.maximum(grid.fair, 1.0), np.inf)
    best = counted.min(0)
    with np.errstate(invalid="ignore"):
        factors = (counted / best).reshape(len(grid.policies), -1)
    factors[np.isnan(factors)] = np.inf
    found = []
    for name, row in zip(grid.policies, factors, strict=True):
        inside = np.sort(row[row <= most])
        share = np.arange(1, len(inside) + 1) / len(row)
        x = np.concatenate([[1.0], np.repeat(inside, 2), [most]])
        y = np.concatenate([[0.0, 0.0], np.repeat(share, 2)])
        found.append(Series(name, x, y[: len(x)]))
    return found


def _cards(grid: Grid, summaries: Mapping[str, Summary], base: str) -> list[Card]:
    cards = [Card(f"nodes of {base}, geometric mean", _or_missing(summaries[base].nodes_gmean))]
    others = {n: s.nodes_ratio for n, s in summaries.items() if s.nodes_ratio is not None}
    if others:
        best = min(others, key=lambda name: others[name].estimate.mean)
        cards.append(
            Card(f"fair nodes, {best} / {base}", others[best].estimate, _interval(others[best]))
        )
    time = {n: s.seconds_ratio for n, s in summaries.items() if s.seconds_ratio is not None}
    if time:
        best = min(time, key=lambda name: time[name].estimate.mean)
        cards.append(Card(f"time, {best} / {base}", time[best].estimate, _interval(time[best])))
    censored = int((~grid.ended).sum())
    cards.append(Card("solves that a limit ended", censored, f"of {grid.ended.size}"))
    return cards


def _verdicts(grid: Grid, summaries: Mapping[str, Summary], base: str) -> list[Verdict]:
    wrong = grid.disagreeing()
    solved = int(grid.ended.sum())
    found = [
        Verdict(
            "All policies that came to the end found the same optimum.",
            "fails" if wrong else "holds" if solved else "open",
            f"they differ on {', '.join(wrong)}" if wrong else f"{solved} solves",
        )
    ]
    for name, summary in summaries.items():
        ratio = summary.nodes_ratio
        if ratio is not None:
            found.append(
                Verdict(f"{name} makes smaller trees than {base}.", _outcome(ratio), _told(ratio))
            )
    return found


def _outcome(ratio: Ratio) -> Literal["holds", "fails", "open"]:
    if ratio.low is None or ratio.high is None:
        return "open"
    return "holds" if ratio.high < 1 else "fails" if ratio.low > 1 else "open"


def _sizes(report: Report, grid: Grid, summaries: Mapping[str, Summary], base: str) -> None:
    report.section("Sizes of trees")
    known = {n: s.nodes_gmean for n, s in summaries.items() if s.nodes_gmean is not None}
    if known:
        report.figure(
            bar_with_errors(
                list(known),
                [each.mean for each in known.values()],
                [each.se if np.isfinite(each.se) else 0.0 for each in known.values()],
                xlabel="nodes, geometric mean",
            ),
            "Geometric mean of the nodes, with ±1.96 standard errors over instances.",
        )
    none = Missing("no solve that all policies ended")
    report.table(
        ["policy", "nodes, mean", "nodes, geometric", "fair nodes, geometric", "wins"],
        [
            [n, s.nodes_mean or none, s.nodes_gmean or none,
             s.fair_gmean or Missing("SCIP's library was not found"), s.wins]
            for n, s in summaries.items()
        ],
        f"Over the {int(grid.common.sum())} of {grid.common.size} pairs of instance and seed at "
        "whose end every policy arrived. Fair nodes count twice what SCIP's strong rules cut off "
        "and tighten on the way. A win is the fewest fair nodes; equals share it.",
    )  # fmt: skip
    report.table(
        ["policy", "decisions, mean", "std of nodes over seeds, %", "ended by a limit"],
        [
            [n, s.decisions_mean or none, s.seed_std or Missing("one seed"),
             f"{s.censored} of {s.solves}"]
            for n, s in summaries.items()
        ],
    )  # fmt: skip
    report.figure(
        line_figure(
            profile(grid), xlabel="fair nodes / fewest of any policy", ylabel="share of solves"
        ),
        "Share of solves within a factor of the smallest tree. Higher is better.",
    )
    report.table(
        ["policy", f"fair nodes / {base}", "95 % interval", "p"],
        [[n, *_ratio_cells(s.nodes_ratio)] for n, s in summaries.items() if n != base],
        "Geometric means of paired ratios; interval and p by a bootstrap over instances.",
    )


def _times(report: Report, summaries: Mapping[str, Summary], base: str) -> None:
    report.section("Times")
    report.table(
        ["policy", "seconds, geometric mean", "share in the policy, %", f"time / {base}",
         "95 % interval", "p"],
        [
            [n, s.seconds_gmean, 100 * s.policy_share,
             *([1.0, "–", "–"] if n == base else _ratio_cells(s.seconds_ratio))]
            for n, s in summaries.items()
        ],
        "Geometric means shifted by 1 s, over all solves; those that a limit ended count with what "
        "they took.",
    )  # fmt: skip


def _trees(report: Report, instance: str, drawn: Mapping[str, Drawn]) -> None:
    if not drawn:
        return
    report.section(f"Trees of {instance}").paragraph(
        "Drawn is every node that was created. The counts above are SCIP's, which leave out those "
        "that were cut off before it turned to them."
    )
    for name, (tree, paths) in drawn.items():
        if len(tree) == 0:
            report.paragraph(f"{name}: solved without a tree.")
            continue
        what = "Coloured lines are the trajectories it is cut into." if len(paths) else ""
        report.figure(
            tree_figure(tree, paths, limit=SHOWN_NODES),
            f"{name}: {len(tree):,} nodes, depth {int(tree.depth.max())}. {what}".strip(),
        )


def _or_missing(value: object) -> object:
    return Missing("no solve that all policies ended") if value is None else value


def _ratio_cells(ratio: Ratio | None) -> list[object]:
    if ratio is None:
        return [Missing("no solve that both ended"), "–", "–"]
    return [ratio.estimate, _interval(ratio) or "–", "–" if ratio.p is None else _p(ratio.p)]


def _interval(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return ""
    return f"[{ratio.low:.3g}, {ratio.high:.3g}]"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def _told(ratio: Ratio) -> str:
    parts = [f"ratio {format_value(ratio.estimate)}"]
    if ratio.p is not None:
        parts += [f"95 % interval {_interval(ratio)}", f"p {_p(ratio.p)}"]
    return ", ".join(parts)
