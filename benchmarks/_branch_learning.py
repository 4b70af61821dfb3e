"""What is learnt in CPU minutes: nodes and time beside other policies, and what it depends on.

Set covering 165 x 230, SCIP without presolving, cuts, propagation and heuristics; every learner
with the same CPU time on one core, and the same held-out instances for all. Policies are learnt
once and kept in a folder for temporary files, so that a second call only compares.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from _harness import Numbers, Spread, interval, note

from esscher.branch.callback import Limits
from esscher.branch.config import configuration
from esscher.branch.evaluate import evaluate
from esscher.branch.graph_policy import save_policy
from esscher.branch.problems import problems_of
from esscher.branch.setup import Setup
from esscher.branch.summary import Summary, summarise
from esscher.branch.training import fit

KEPT = Path(tempfile.gettempdir()) / "esscher-branch"
PROBLEM = "setcover-165x230"
LEARNERS: dict[str, dict[str, Any]] = {
    "retro": {},
    "imitation": {"imitation__chance": 0.3, "imitation__samples": 10_000},
    "fmsts": {},
    "original": {},
}
PLAIN = ("random", "pseudocost", "strong", "pscost")
RATIOS = (
    ("retro", "random"), ("retro", "imitation"), ("imitation", "strong"), ("retro", "pscost"),
    ("fmsts", "retro"), ("original", "retro"),
)  # fmt: skip
SELECTS = ("max_leaf_lp_gain", "deepest", "visitation_order", "random")
PUBLISHED_END = {"network__head": "plain", "network__output": "value"}
SCIP_SEEDS = 3
DEPTHS = (3,)
LARGER = 40
"""Held-out instances of the larger class."""


@dataclass(frozen=True)
class Size:
    """How much is learnt and compared.

    Attributes:
        minutes: CPU minutes of every learner.
        expert: of imitation, which needs some thousand decisions of strong branching.
        brief: of learners by construction and by the network's end.
        seeds: of them.
        instances: held out.
        learners: by name.
        hybrid: class and CPU minutes of a policy whose time is compared, on how many instances of
            which class. The first class is also that of the comparison on larger trees.
    """

    minutes: float
    expert: float
    brief: float
    seeds: Sequence[int]
    instances: int
    learners: Sequence[str]
    hybrid: tuple[str, float, str, int]

    def fitting(self, method: str, seed: int, **changes: Any) -> Fitting:
        """Of this size."""
        minutes = self.expert if method == "imitation" else self.minutes
        return Fitting(method, minutes, seed, LEARNERS[method] | changes)

    def briefly(self) -> Size:
        """The same in less time."""
        return replace(self, minutes=self.brief)


QUICK = Size(1.5, 1.5, 1.5, (0,), 30, ("retro", "imitation"), (PROBLEM, 1.5, "setcover-250x500", 6))
FULL = Size(
    10.0,
    20.0,
    3.0,
    (0, 1, 2),
    100,
    tuple(LEARNERS),
    ("setcover-250x500", 8.0, "setcover-500x1000", 12),
)


@dataclass(frozen=True)
class Fitting:
    """One policy to learn."""

    method: str
    minutes: float
    seed: int
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Of the policy, by its settings; empty `KEPT` after a change to a learner."""
        text = repr((self.method, self.minutes, sorted(self.changes.items())))
        return KEPT / f"{self.method}-{self.seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def learning(quick: bool) -> Numbers:
    """All there is; quick ones, of fewer learners, less time and a seed, by names of their own."""
    if quick:
        numbers = policies(QUICK) | hybrids(QUICK)
        return {f"quick, {name}": number for name, number in numbers.items()}
    brief = FULL.briefly()
    found = policies(FULL) | selectors(FULL) | constructions(brief) | published_ends(brief)
    return found | larger(FULL) | hybrids(FULL)


def learnt(fitting: Fitting) -> str:
    """Folder of the policy. Time is the process's, so that other work takes nothing away."""
    folder = fitting.folder
    if not folder.exists():
        note(f"  {fitting.method} {dict(fitting.changes)}, seed {fitting.seed}: "
             f"{fitting.minutes:g} CPU minutes")  # fmt: skip
        config = configuration(
            fitting.method, budget__minutes=fitting.minutes,
            budget__every=fitting.minutes / 8, **fitting.changes,
        )  # fmt: skip
        result = fit(config, seed=fitting.seed, clock=time.process_time)
        note(f"  nodes while learning: {[round(r['nodes_gmean'], 1) for r in result.history]}")
        save_policy(result.network, folder)
    return str(folder)


def policies(size: Size) -> Numbers:
    """Every learner beside strong branching, pseudocosts and chance; a number per seed."""
    named = {name: name for name in PLAIN}
    for seed in size.seeds:
        for method in size.learners:
            named[f"{method} {seed}"] = learnt(size.fitting(method, seed))
    summaries = compared(named, "random", size.instances)
    means: dict[str, list[float]] = {}
    found: Numbers = {}
    for label, summary in summaries.items():
        name = label.split(" ")[0]
        means.setdefault(name, []).append(mean_nodes(summary))
        note(f"  {label}: {mean_nodes(summary):.2f} nodes, {summary.seconds_gmean.mean:.3f} s")
        assert summary.nodes_gmean is not None
        if len(size.seeds) == 1 or name in PLAIN:
            found[f"nodes: {name}"] = interval(summary.nodes_gmean)
        else:
            found[f"nodes: {name}"] = Spread.of(means[name])
    means |= {name: means[name] * len(size.seeds) for name in PLAIN}
    for above, below in RATIOS:
        if above in means:
            pairs = zip(means[above], means[below], strict=True)
            found[f"nodes: {above} / {below}"] = Spread.of(a / b for a, b in pairs)
    return found


def selectors(size: Size) -> Numbers:
    """The learnt policy's nodes over pseudocost's, under other choices of the next node."""
    named = {str(s): learnt(size.fitting("retro", s)) for s in size.seeds}
    found: Numbers = {}
    for selector in ("default", "dfs", "bfs"):
        setup = Setup(selector=selector)
        summaries = compared(
            named | {"pseudocost": "pseudocost"}, "pseudocost", size.instances, setup=setup
        )
        beside = mean_nodes(summaries["pseudocost"])
        ratios = (mean_nodes(summaries[name]) / beside for name in named)
        found[f"nodes under {selector}: retro / pseudocost"] = Spread.of(ratios)
    return found


def constructions(size: Size) -> Numbers:
    """Nodes by where retrospective paths lead."""
    means = {"max_leaf_lp_gain": seeds_of(size, "retro")}
    means |= {select: seeds_of(size, "retro", select=select) for select in SELECTS[1:]}
    return {f"nodes: retro, {name}": Spread.of(values) for name, values in means.items()}


def published_ends(size: Size) -> Numbers:
    """Nodes of networks that end as the published one does: no value of the state, Q <= 0."""
    names = "retro", "fmsts", "original"
    means = {name: seeds_of(size, name, **PUBLISHED_END) for name in names}
    found = {f"nodes: {name}, published end": Spread.of(v) for name, v in means.items()}
    for name in names[1:]:
        pairs = zip(means[name], means["retro"], strict=True)
        found[f"nodes: {name} / retro, published end"] = Spread.of(a / b for a, b in pairs)
    return found


def seeds_of(size: Size, method: str, **changes: Any) -> list[float]:
    """Geometric mean of the nodes of a learner's policies, a number per seed."""
    folders = {str(s): learnt(size.fitting(method, s, **changes)) for s in size.seeds}
    summaries = compared(folders, str(size.seeds[0]), size.instances)
    return [mean_nodes(summaries[str(s)]) for s in size.seeds]


def larger(size: Size) -> Numbers:
    """Learners of a larger class on instances of it; a number per seed."""
    kind, minutes, _, _ = size.hybrid
    named = {name: name for name in ("pscost", "pseudocost")}
    for seed in size.seeds:
        for method in ("retro", "fmsts"):
            named[f"{method} {seed}"] = learnt(Fitting(method, minutes, seed, {"problem": kind}))
    summaries = summarise(evaluate(named, problems_of(kind, LARGER, 1)))
    means: dict[str, list[float]] = {}
    for label, summary in summaries.items():
        note(f"  {label}: {mean_nodes(summary):.2f} nodes")
        means.setdefault(label.split(" ")[0], []).append(mean_nodes(summary))
    found = {f"{kind}, nodes: retro": Spread.of(means["retro"])}
    for name, values in means.items():
        if name != "retro":
            pairs = zip(values * (len(size.seeds) // len(values)), means["retro"], strict=True)
            found[f"{kind}, nodes: {name} / retro"] = Spread.of(a / b for a, b in pairs)
    return found


def hybrids(size: Size) -> Numbers:
    """Total time beside SCIP's pseudocost rule, the policy asked everywhere or near the root."""
    kind, minutes, target, count = size.hybrid
    small = size.fitting("retro", size.seeds[0])
    large = small if kind == PROBLEM else Fitting("retro", minutes, 0, {"problem": kind})
    return beside_pscost(learnt(small), PROBLEM, 20) | beside_pscost(learnt(large), target, count)


def beside_pscost(policy: str, target: str, count: int) -> Numbers:
    """Ratios of total seconds and nodes, a number for each of SCIP's seeds."""
    problems = problems_of(target, count, 1)
    evaluate({"warm": policy}, problems_of(PROBLEM, 2, 1))
    totals: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(SCIP_SEEDS):
        rows = evaluate({"pscost": "pscost", "retro": policy}, problems, seeds=(seed,))
        for depth in DEPTHS:
            setup = Setup(limits=Limits(max_depth=depth), fallback="pscost")
            label = f"retro to depth {depth}"
            rows += evaluate({label: policy}, problems, setup=setup, seeds=(seed,))
        for name in dict.fromkeys(row.policy for row in rows):
            mine = [row for row in rows if row.policy == name]
            nodes = sum(row.nodes for row in mine)
            seconds = sum(row.seconds for row in mine)
            own = sum(row.policy_seconds for row in mine)
            note(f"  {target}, SCIP's seed {seed}, {name}: {nodes} nodes, {seconds:.2f} s")
            totals.setdefault(name, []).append((nodes, seconds, own))
    base = totals.pop("pscost")
    found = {f"{target}, pscost: nodes per instance": Spread.of(n / count for n, _, _ in base)}
    for name, values in totals.items():
        pairs = list(zip(values, base, strict=True))
        found[f"{target}, {name} / pscost: nodes"] = Spread.of(a[0] / b[0] for a, b in pairs)
        found[f"{target}, {name} / pscost: seconds"] = Spread.of(a[1] / b[1] for a, b in pairs)
        found[f"{target}, {name}: share of the policy"] = Spread.of(v[2] / v[1] for v in values)
    return found


def compared(
    named: Mapping[str, str], base: str, instances: int, *, setup: Setup | None = None
) -> dict[str, Summary]:
    """All policies on the same held-out instances."""
    rows = evaluate(named, problems_of(PROBLEM, instances, 1), setup=setup or Setup())
    return summarise(rows, base, rng=np.random.default_rng(0))


def mean_nodes(summary: Summary) -> float:
    """Geometric mean."""
    assert summary.nodes_gmean is not None
    return summary.nodes_gmean.mean
