"""Search with inspection costs: what simpler rules lose, how fast the optimum is found, and audits.

For every family: the committing policies' and Weitzman's value over the optimum, and the optimum
over the bound that needs no search, worst and mean over instances. Exact tables at n = 20 and 22
with boxes that all differ, warm; bound and commitments of 1,000 boxes; branch and bound at n = 40,
the share of instances certified to 1e-3 within 60 seconds. A million plays per policy against its
computed value. Best-of-n: a law learnt from 200 rewards against one that is known.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import time
from typing import Any

import numpy as np
from _harness import Numbers, Spread, main, note, single

from esscher.kit.stopping import BestOfN, EmpiricalLaw, ExponentialLaw, NormalLaw
from esscher.pandora import Box, PandoraInstance, simulate, solve, upper_bound
from esscher.pandora.families import FAMILIES, tight

RATIO_BOXES = 10
RATIO_SEEDS = {True: 20, False: 100}
BRANCHED = ("exposed", "hardness_stress", "heavy_tailed", "random")
BRANCHED_SEEDS = {True: 3, False: 25}
LIMIT = 60.0
PLAYS = {True: 100_000, False: 1_000_000}
AUDITED = {True: 12, False: 50}
SEARCHES = {True: 1000, False: 2000}
LAWS: dict[str, Any] = {
    "UCB, exponential": ExponentialLaw(),
    "predictive, exponential": ExponentialLaw(rule="predictive"),
    "plain, exponential": ExponentialLaw(rule="plain"),
    "empirical": EmpiricalLaw(),
    "UCB, normal": NormalLaw(),
}


def measure(quick: bool) -> Numbers:
    numbers = ratios(quick) | heights() | large() | tables(quick)
    return numbers | branched(quick) | audits(quick) | stopping(quick)


def ratios(quick: bool) -> Numbers:
    """Simpler rules over the optimum, and the optimum over the bound."""
    numbers: Numbers = {}
    for family in sorted(FAMILIES):
        rows = []
        for seed in range(1 if family == "tight" else RATIO_SEEDS[quick]):
            n = 2 if family == "tight" else RATIO_BOXES
            instance = FAMILIES[family](n, seed)
            found = solve(instance, eps=0.0, method="exact")
            rows.append(
                {
                    "committing / optimum": found.committing / found.value,
                    "Weitzman / optimum": found.weitzman / found.value,
                    "optimum / bound": found.value / upper_bound(instance),
                }
            )
        for key in rows[0]:
            numbers[f"{family}: {key}"] = _mean(row[key] for row in rows)
        note(f"  ratios of {family}")
    return numbers


def heights() -> Numbers:
    """The tight family towards 0.8."""
    found = {height: solve(tight(height=height), eps=0.0) for height in (1e3, 1e5)}
    return {
        f"tight, H = {height:g}: committing / optimum": single(r.committing / r.value)
        for height, r in found.items()
    }


def large() -> Numbers:
    """Bound, commitments and Weitzman's rule of 1,000 boxes."""
    instance = FAMILIES["random"](1000, 0)
    times = []
    for _ in range(3):
        cpu = time.process_time()
        solve(instance, method="committing")
        times.append(time.process_time() - cpu)
    return {"n = 1000: bound and committing, CPU s": Spread.of(times)}


def tables(quick: bool) -> Numbers:
    """Exact tables on boxes that cannot be screened, all different, 4 values each."""
    numbers: Numbers = {}
    for n in (20,) if quick else (20, 22):
        instance = _unscreened(n)
        solve(_unscreened(8), method="exact")
        times = []
        for _ in range(1 if quick else 3):
            cpu = time.process_time()
            solve(instance, method="exact")
            times.append(time.process_time() - cpu)
        numbers[f"exact, n = {n}, 4 values: CPU s"] = Spread.of(times)
        note(f"  exact table of {n} boxes: {times[-1]:.1f} CPU s")
    return numbers


def _unscreened(n: int) -> PandoraInstance:
    """The exposed family with two more values a box."""
    rng = np.random.default_rng(n)
    boxes = [Box([0.0, 1.0, 3.0, 100.0], [0.95, 0.02, 0.01, 0.02], 1.0, "B")]
    for k in range(n - 1):
        p = rng.uniform(0.5, 1.5) * 0.8 / n * np.array([0.4, 0.3, 0.3])
        values = [0.0, *(2.0 + rng.uniform(-0.5, 0.5, 3))]
        cost = float(p.sum()) * rng.uniform(0.05, 0.5)
        boxes.append(Box(values, [1 - p.sum(), *p], cost, f"A{k + 1}"))
    return PandoraInstance(boxes)


def branched(quick: bool) -> Numbers:
    """Branch and bound at n = 40."""
    numbers: Numbers = {}
    certified, committed = [], []
    for family in BRANCHED:
        own, wall = [], []
        for seed in range(BRANCHED_SEEDS[quick]):
            found = solve(FAMILIES[family](40, seed), 1e-3, "bnb", time_limit=LIMIT)
            own.append(found.certified and found.seconds <= 1.05 * LIMIT)
            wall.append(found.seconds)
            committed.append((family, found.committing / found.value))
            note(f"  bnb {family} {seed}: gap {found.gap:.1e} in {found.seconds:.1f} s")
        certified += own
        numbers[f"bnb, n = 40, {family}: certified"] = single(float(np.mean(own)))
        numbers[f"bnb, n = 40, {family}: wall s"] = Spread.of(wall)
        ratio = [r for name, r in committed if name == family]
        numbers[f"bnb, n = 40, {family}: committing / value"] = _mean(ratio)
    numbers["bnb, n = 40: certified to 1e-3 in 60 s"] = single(float(np.mean(certified)))
    return numbers


def audits(quick: bool) -> Numbers:
    """Standard errors between plays of the optimal policy and its computed value."""
    names = sorted(set(FAMILIES) - {"tight"})
    instances = [tight(height=h) for h in (10.0, 100.0, 1000.0)]
    instances += [FAMILIES[names[k % 4]](3 + k % 6, k) for k in range(AUDITED[quick] - 3)]
    off, rates = [], []
    for seed, instance in enumerate(instances):
        result = solve(instance, eps=0.0)
        cpu = time.process_time()
        found = simulate(instance, result.policy, PLAYS[quick], seed)
        rates.append(PLAYS[quick] / (time.process_time() - cpu) / 1e6)
        off.append(abs(found.off_by(result.value)))
    return {
        "audit: largest |standard errors off|": single(max(off)),
        "audit: million plays per CPU s": Spread.of(rates),
    }


def stopping(quick: bool) -> Numbers:
    """Payoff with a learnt law over that with the law known; exponential rewards."""
    rng = np.random.default_rng(1)
    numbers: Numbers = {}
    shape = (SEARCHES[quick], 400)
    table, history = rng.exponential(1.0, shape), rng.exponential(1.0, (shape[0], 200))
    cases = [(cost, True) for cost in (0.1, 0.03, 0.01)] + [(0.005, False), (0.03, False)]
    for cost, taught in cases:
        best = _searched(BestOfN(cost, ExponentialLaw(mean=1.0), most=400), table, None)
        where = f"best-of-n, cost {cost:g}, {'200 rewards before' if taught else 'from nothing'}"
        for name, law in LAWS.items():
            earned = _searched(BestOfN(cost, law, most=400), table, history if taught else None)
            se = float((earned - best).std()) / shape[0] ** 0.5 / best.mean()
            ratio = float(earned.mean() / best.mean())
            numbers[f"{where}: {name}"] = Spread(ratio, ratio - 1.96 * se, ratio + 1.96 * se)
        note(f"  {where}")
    return numbers


def _searched(rule: BestOfN, table: Any, history: Any) -> Any:
    out = []
    for k, row in enumerate(table):
        known = () if history is None else history[k]
        n = next(n for n in range(1, len(row) + 1) if rule.should_stop(row[:n], known))
        out.append(row[:n].max() - rule.cost * n)
    return np.array(out)


def _mean(values: Any) -> Spread:
    """The mean with the smallest and the largest."""
    each = [float(v) for v in values]
    return Spread(float(np.mean(each)), min(each), max(each))


def run(quick: bool = False, output: object = None) -> dict[str, float]:
    return {key: spread.median for key, spread in measure(quick).items()}


if __name__ == "__main__":
    sys.exit(main("pandora", __doc__, measure))
