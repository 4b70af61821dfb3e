"""The report of a solved instance: what to do, what it earns, and what simpler rules leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esscher.kit.runs.figures import Series, bar_with_errors, line_figure
from esscher.kit.runs.outline import Outline, outline_figure
from esscher.kit.runs.report import Card, Report, Verdict
from esscher.pandora.commit import best_commitment
from esscher.pandora.explain import Decision, decision_tree, explain
from esscher.pandora.instance import PandoraInstance
from esscher.pandora.occupancy import visits
from esscher.pandora.policy import TwoPhasePolicy
from esscher.pandora.result import Result
from esscher.pandora.sensitivity import cost_sensitivity
from esscher.pandora.simulate import Policy, Simulation, simulate

__all__ = ["add_instance", "outline_of", "payoff_figure", "simulate_all"]

COLOUR = {"open": 0, "take": 2, "claim": 1, "more": 6}
SHOWN_BOXES = 40
OPTIMAL, COMMITTING, WEITZMAN = "best found", "committing", "Weitzman"


def add_instance(
    report: Report,
    instance: PandoraInstance,
    result: Result,
    *,
    unit: str = "",
    plays: int = 100_000,
    seed: int = 0,
) -> dict[str, Simulation]:
    """Add the sections of one instance to a report.

    Args:
        report: gets them.
        instance: the boxes.
        result: of `solve` on it.
        unit: of values and costs, such as "k€".
        plays: simulated searches per policy.
        seed: of the simulation.

    Returns:
        The simulations, by policy.
    """
    played = simulate_all(instance, result, plays, seed)
    report.cards(_cards(result, unit))
    report.verdicts(_verdicts(result, played))
    report.section("What to do")
    for sentence in explain(result.policy, unit):
        report.paragraph(sentence)
    report.figure(
        outline_figure(outline_of(decision_tree(result.policy), unit)),
        "The policy as a tree, with the share of searches that come to each line on the right. "
        "Blue opens a box, green stops with the best value seen, red takes a box unseen.",
    )
    _thresholds(report, result.policy)
    _boxes(report, instance, result.policy)
    _payoffs(report, result, played, unit)
    _sensitivity(report, result.policy, unit)
    return played


def outline_of(decision: Decision, unit: str = "") -> Outline:
    """A tree of decisions as a drawing takes it."""
    return Outline(
        decision.action(unit),
        decision.condition(unit),
        decision.share,
        COLOUR[decision.kind],
        tuple(outline_of(part, unit) for part in decision.parts),
    )


def simulate_all(
    instance: PandoraInstance, result: Result, plays: int, seed: int
) -> dict[str, Simulation]:
    """The policy found, the best commitment and Weitzman's rule, played on equal seeds."""
    policies: dict[str, Policy] = {
        OPTIMAL: result.policy,
        COMMITTING: best_commitment(instance),
        WEITZMAN: TwoPhasePolicy(instance),
    }
    return {name: simulate(instance, policy, plays, seed) for name, policy in policies.items()}


def payoff_figure(played: Mapping[str, Simulation], unit: str = "") -> Any:
    """Share of searches that earn at least so much, a stair per policy."""
    series = [Series(name, *_stairs(sim.payoffs)) for name, sim in played.items()]
    label = "payoff, costs paid" + (f", {unit}" if unit else "")
    return line_figure(series, xlabel=label, ylabel="share that earns at least this")


def _stairs(payoffs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    levels, counts = np.unique(payoffs, return_counts=True)
    least = np.cumsum(counts[::-1])[::-1] / len(payoffs)
    after = np.append(least[1:], 0.0)
    return np.repeat(levels, 2), np.stack([least, after], 1).ravel()


def _cards(result: Result, unit: str) -> list[Card]:
    what = f"on average{', ' + unit if unit else ''}"
    return [
        Card(f"policy found, {what}", result.value, f"method: {result.method}"),
        Card("no policy can earn more than", result.upper_bound, f"gap {100 * result.gap:.2g} %"),
        Card("best commitment", result.committing, _share(result.committing, result.value)),
        Card("Weitzman's rule", result.weitzman, _share(result.weitzman, result.value)),
    ]


def _share(value: float, best: float) -> str:
    return f"{100 * value / best:.1f} % of the policy found" if best > 0 else ""


def _verdicts(result: Result, played: Mapping[str, Simulation]) -> list[Verdict]:
    off = played[OPTIMAL].off_by(result.value)
    return [
        Verdict(
            "No policy is better by more than was asked for.",
            "holds" if result.certified else "open",
            "; ".join(filter(None, [f"gap {100 * result.gap:.3g} % of the bound", result.note])),
        ),
        Verdict(
            "Playing the policy earns what was computed.",
            "holds" if abs(off) < 4 else "fails",
            f"{played[OPTIMAL].payoff.n:,} searches, {off:+.2f} standard errors off",
        ),
    ]


def _thresholds(report: Report, policy: TwoPhasePolicy) -> None:
    if not policy.order:
        return
    found = visits(policy)
    report.section("The list").table(
        ["place", "box", "comes to this", "leave the list if the best seen is at least"],
        [
            [t + 1, name, f"{100 * found.reached[t]:.3g} %", _threshold(policy, t)]
            for t, name in enumerate(policy.order)
        ],
        "Boxes are opened in this order, whatever they show, until the best value seen reaches the "
        "threshold. From then on the next box is the closed one with the highest reservation "
        "value, for as long as that is above the best value seen.",
    )


def _threshold(policy: TwoPhasePolicy, t: int) -> float | str:
    value = policy.thresholds[t]
    return value if np.isfinite(value) else "always"


def _boxes(report: Report, instance: PandoraInstance, policy: TwoPhasePolicy) -> None:
    best, plain = visits(policy), visits(TwoPhasePolicy(instance))
    shown = sorted(instance.boxes, key=lambda box: (-best.opened[box.name], -box.sigma))
    rows = [
        [
            box.name,
            box.cost,
            box.mean,
            box.sigma,
            box.beta,
            f"{100 * best.opened[box.name]:.3g} %",
            f"{100 * plain.opened[box.name]:.3g} %",
        ]
        for box in shown[:SHOWN_BOXES]
    ]
    rest = len(shown) - SHOWN_BOXES
    more = f" {rest} more boxes are left out, those opened least." if rest > 0 else ""
    report.section("The boxes").table(
        ["box", "cost", "mean", "reservation value", "backup value", "opened", "by Weitzman"],
        rows,
        "A box is worth opening with less in hand than its reservation value. With less than its "
        "backup value in hand, and no other box, it is better taken unseen." + more,
    )


def _payoffs(report: Report, result: Result, played: Mapping[str, Simulation], unit: str) -> None:
    values = {OPTIMAL: result.value, COMMITTING: result.committing, WEITZMAN: result.weitzman}
    report.section("What it earns").figure(
        payoff_figure(played, unit),
        "Share of simulated searches whose payoff, after all costs, is at least the value below.",
    )
    report.table(
        ["policy", "computed", "simulated", "paid for opening", "takes unseen", "best 5 %"],
        [
            [
                name,
                values[name],
                sim.payoff,
                sim.cost,
                f"{100 * sim.ends['claim']:.3g} %",
                float(np.quantile(sim.payoffs, 0.95)),
            ]
            for name, sim in played.items()
        ],
    )
    for sentence in _why(result, played):
        report.paragraph(sentence)


def _why(result: Result, played: Mapping[str, Simulation]) -> list[str]:
    """Where the simpler rules lose, if they do."""
    said = []
    close = 1e-9 * max(1.0, abs(result.value))
    if result.weitzman < result.value - close:
        more = played[WEITZMAN].cost.mean - played[OPTIMAL].cost.mean
        said.append(
            "Weitzman's rule takes no box without opening it"
            + (f", and pays {more:.3g} more for looking on average." if more > 0 else ".")
        )
    if result.committing < result.value - close:
        closed = best_commitment(result.policy.instance).closed
        rule = "every box" if closed is None else f"every box but {closed}, which is never opened,"
        said.append(
            "A commitment decides before anything is seen which box may be taken unseen; the best "
            f"one here opens {rule} before taking it, whatever the others have shown."
        )
    if not said:
        said.append("The simpler rules lose nothing here.")
    return said


def _sensitivity(report: Report, policy: TwoPhasePolicy, unit: str) -> None:
    slopes = cost_sensitivity(policy)
    names = sorted(slopes, key=lambda name: slopes[name])[:SHOWN_BOXES]
    names = [name for name in names if slopes[name] < 0]
    report.section("What cheaper looking is worth")
    if not names:
        report.paragraph("No box is opened, so that no cost matters.")
        return
    report.figure(
        bar_with_errors(
            names,
            [-slopes[name] for name in names],
            xlabel=f"gain per {unit or 'unit'} of cost saved",
        ),
        "By how much the average payoff rises where opening this box gets cheaper by a little: "
        "the probability that it is opened. A larger saving is worth at least as much per unit.",
    )
