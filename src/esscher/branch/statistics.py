"""Numbers of an evaluation: means, wins, spread over seeds, and paired ratios with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from esscher.branch.rows import Row
from esscher.core.estimate import Estimate, from_samples
from esscher.errors import ConfigError, DataError, ShapeError

__all__ = [
    "Grid",
    "Ratio",
    "Summary",
    "arithmetic_mean",
    "geometric_mean",
    "paired_ratio",
    "seed_spread",
    "summarise",
    "wins",
]

Floats = NDArray[np.float64]
_Some: TypeAlias = Estimate | None
_Sizes: TypeAlias = tuple[_Some, _Some, _Some, _Some, _Some]
RESAMPLES = 10_000


@dataclass(frozen=True)
class Ratio:
    """One quantity over another, as a geometric mean over paired instances.

    Attributes:
        estimate: the ratio; its standard error is that of the logarithm, times it.
        low: lower end of the 95 % interval, None where there are too few instances.
        high: upper end.
        p: two-sided, of the hypothesis that the ratio is 1; None for a single instance.
    """

    estimate: Estimate
    low: float | None
    high: float | None
    p: float | None

    def to_json(self) -> dict[str, float | int | None]:
        """The estimate with "low", "high" and "p"."""
        return self.estimate.to_json() | {"low": self.low, "high": self.high, "p": self.p}


@dataclass(frozen=True)
class Grid:
    """Rows as arrays [P, I, S] over policies, instances and seeds.

    Attributes:
        policies: labels.
        instances: names.
        seeds: of SCIP and the policies.
        ended: bool, whether the solve came to its end.
        nodes: of the tree.
        fair_nodes: see `esscher.branch.fair`; NaN where not known.
        decisions: of the policy.
        seconds: of the solve, the limit's where it was reached.
        policy_seconds: of them in the policy.
        objective: NaN without a solution.
    """

    policies: tuple[str, ...]
    instances: tuple[str, ...]
    seeds: tuple[int, ...]
    ended: NDArray[np.bool_]
    nodes: Floats
    fair_nodes: Floats
    decisions: Floats
    seconds: Floats
    policy_seconds: Floats
    objective: Floats

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Grid:
        """Arrange rows.

        Raises:
            DataError: if a combination is missing or occurs twice, or there is no row.
        """
        policies, instances, seeds = (
            tuple(dict.fromkeys(getattr(row, name) for row in rows))
            for name in ("policy", "instance", "seed")
        )
        by_key = {row.key: row for row in rows}
        shape = (len(policies), len(instances), len(seeds))
        if not rows or len(by_key) != len(rows) or len(rows) != math.prod(shape):
            raise DataError(
                f"{len(rows)} rows do not make a table of {shape[0]} policies, {shape[1]} "
                f"instances and {shape[2]} seeds, each once"
            )
        ordered = [by_key[p, i, s] for p in policies for i in instances for s in seeds]

        def column(name: str) -> Floats:
            values = [getattr(row, name) for row in ordered]
            return np.array(values, dtype=np.float64).reshape(shape)

        return cls(
            policies, instances, seeds, column("ended") > 0, column("nodes"),
            column("fair_nodes"), column("decisions"), column("seconds"),
            column("policy_seconds"), column("objective"),
        )  # fmt: skip

    @property
    def common(self) -> NDArray[np.bool_]:
        """[I, S] whether every policy came to the end."""
        return np.asarray(self.ended.all(0))

    def disagreeing(self, tolerance: float = 1e-6) -> list[str]:
        """Instances on which solves that ended found optima that differ by more, relatively."""
        found = []
        for k, name in enumerate(self.instances):
            values = self.objective[:, k][self.ended[:, k]]
            known = values[~np.isnan(values)]
            mixed = 0 < len(known) < len(values)
            spread = len(known) and np.ptp(known) > tolerance * max(1.0, np.abs(known).max())
            if mixed or spread:
                found.append(name)
        return found


@dataclass(frozen=True)
class Summary:
    """Numbers of one policy. Their n is that of instances; seeds are averaged first.

    Node counts are over the instance-seed pairs at whose end every policy arrived, so that all are
    measured on the same trees; None where there is no such pair.

    Attributes:
        nodes_mean: arithmetic mean of the nodes.
        nodes_gmean: geometric mean of the nodes.
        fair_gmean: geometric mean of the fair nodes; None where they are not known.
        decisions_mean: arithmetic mean of the decisions.
        seed_std: standard deviation over seeds in % of the mean; None with one seed.
        wins: instances won, see `wins`.
        seconds_gmean: geometric mean of the seconds, shifted by 1 s, over all pairs. A solve that
            a limit ended counts with what it took.
        policy_share: share of the seconds that the policy itself took.
        censored: solves that a limit ended.
        solves: of the policy in all.
        nodes_ratio: fair nodes over those of the base, on pairs at whose end both arrived; None
            of the base itself.
        seconds_ratio: seconds over those of the base, both shifted by 1 s, over all pairs.
    """

    nodes_mean: Estimate | None
    nodes_gmean: Estimate | None
    fair_gmean: Estimate | None
    decisions_mean: Estimate | None
    seed_std: Estimate | None
    wins: Estimate
    seconds_gmean: Estimate
    policy_share: float
    censored: int
    solves: int
    nodes_ratio: Ratio | None = None
    seconds_ratio: Ratio | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it by name; None where there is none."""
        return dict(vars(self))


def summarise(
    rows: Sequence[Row], base: str | None = None, *, rng: np.random.Generator | None = None
) -> dict[str, Summary]:
    """Numbers of every policy, by label.

    Args:
        rows: of one evaluation, all of them.
        base: policy that the others are held against.
        rng: of the bootstrap; needed with a base.

    Raises:
        DataError: if rows are missing.
        ConfigError: if there is no such base, or no generator with one.
    """
    grid = Grid.of(rows)
    if base is not None and base not in grid.policies:
        raise ConfigError(f"there is no policy {base!r} to compare with among {grid.policies}")
    if base is not None and rng is None:
        raise ConfigError("comparing with a base needs a generator for the bootstrap")
    won = wins(_fair(grid), grid.ended)
    found: dict[str, Summary] = {}
    for k, policy in enumerate(grid.policies):
        nodes_ratio = seconds_ratio = None
        if base is not None and rng is not None and policy != base:
            nodes_ratio, seconds_ratio = _against(grid, k, grid.policies.index(base), rng)
        found[policy] = Summary(
            *_sizes(grid, k),
            wins=won[k],
            seconds_gmean=_over_seeds(grid.seconds[k], None, shift=1.0),
            policy_share=float(grid.policy_seconds[k].sum() / max(grid.seconds[k].sum(), 1e-9)),
            censored=int((~grid.ended[k]).sum()),
            solves=int(grid.ended[k].size),
            nodes_ratio=nodes_ratio,
            seconds_ratio=seconds_ratio,
        )
    return found


def arithmetic_mean(values: Floats) -> Estimate:
    """Mean of independent values [N]."""
    return from_samples(torch.from_numpy(_vector(values)))


def geometric_mean(values: Floats, shift: float = 0.0) -> Estimate:
    """exp(mean log(x + shift)) - shift of values [N], its error by the delta method.

    Raises:
        DataError: if a value plus the shift is not above 0.
    """
    found = _vector(values) + shift
    if not (found > 0).all():
        raise DataError(
            f"a geometric mean needs values above {-shift:g}, got {found.min() - shift:g}"
        )
    logs = arithmetic_mean(np.log(found))
    return _exponential(logs, shift)


def wins(nodes: Floats, ended: NDArray[np.bool_]) -> list[Estimate]:
    """Instances on which each policy has the fewest nodes.

    Of policies that come to the end; k that tie get 1/k each (the literature gives all of them a
    win). An instance is averaged over its seeds, so that all wins together are the instances at
    whose end somebody arrived.

    Args:
        nodes: [P, I, S].
        ended: [P, I, S] bool.

    Returns:
        Sums over instances; n is the number of instances.
    """
    counted = np.where(ended, nodes, np.inf)
    least = (counted == counted.min(0)) & ended
    shares = least / np.maximum(least.sum(0), 1)
    per_instance = shares.mean(2)
    n = per_instance.shape[1]
    found = [arithmetic_mean(row) for row in per_instance]
    return [Estimate(n * each.mean, n * each.se, n) for each in found]


def seed_spread(nodes: Floats) -> Estimate | None:
    """Standard deviation over seeds (n - 1) in % of the mean, averaged over instances.

    Args:
        nodes: [I, S]; NaN where there is no number.

    Returns:
        None where no instance has two numbers.
    """
    known = (~np.isnan(nodes)).sum(1)
    some = nodes[known >= 2]
    if len(some) == 0:
        return None
    mean = np.nanmean(some, 1)
    return arithmetic_mean(100 * np.nanstd(some, 1, ddof=1) / np.maximum(mean, 1e-12))


def paired_ratio(logs: Floats, rng: np.random.Generator, *, resamples: int = RESAMPLES) -> Ratio:
    """Exponential of the mean of paired log-ratios, by a bootstrap over instances.

    The bootstrap is that of Student's t, (resampled mean - mean) / resampled standard error, which
    is honest about few instances: interval and p come from its quantiles. Resamples of one value
    only have an infinite t; with fewer than 4 instances they are so many that no end is given.

    Args:
        logs: [I] log of one over the other, an instance each.
        rng: of the resamples.
        resamples: how many, >= 2.

    Reference:
        Efron, Tibshirani (1993), chapter 12.
    """
    logs = _vector(logs)
    n, mean = len(logs), float(logs.mean())
    if n < 2:
        return Ratio(Estimate(math.exp(mean), math.inf, n), None, None, None)
    se = float(logs.std(ddof=1)) / math.sqrt(n)
    estimate = Estimate(math.exp(mean), math.exp(mean) * se, n)
    if se <= 1e-12 * max(1.0, abs(mean)):  # All alike, where t is not defined: the sign test.
        same = math.exp(mean)
        return Ratio(estimate, same, same, 1.0 if abs(mean) < 1e-12 else 2.0 ** (1 - n))
    t = np.concatenate(
        [_students(logs, rng, size) for size in _portions(resamples, max(1, 2_000_000 // n))]
    )
    upper = float(np.quantile(t, 0.975, method="higher"))
    lower = float(np.quantile(t, 0.025, method="lower"))
    p = (1 + int((np.abs(t) >= abs(mean) / se).sum())) / (resamples + 1)
    return Ratio(estimate, _end(mean - upper * se), _end(mean - lower * se), p)


def _students(logs: Floats, rng: np.random.Generator, size: int) -> Floats:
    """[size] values of Student's t of resamples."""
    n = len(logs)
    drawn = logs[rng.integers(n, size=(size, n))]
    off = drawn.mean(1) - logs.mean()
    se = drawn.std(1, ddof=1) / math.sqrt(n)
    alike = se <= 1e-12 * max(1.0, float(np.abs(logs).max()))
    return np.asarray(np.where(alike, np.copysign(np.inf, off), off / np.where(alike, 1.0, se)))


def _portions(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]


def _end(log: float) -> float | None:
    return math.exp(log) if abs(log) < 100 else None


def _against(grid: Grid, k: int, base: int, rng: np.random.Generator) -> tuple[Ratio | None, Ratio]:
    """Of fair nodes, over the pairs at whose end both arrived, and of seconds."""
    fair = np.log(np.maximum(_fair(grid), 1.0))
    time = np.log(grid.seconds + 1.0)
    logs = _instance_means(fair[k] - fair[base], grid.ended[k] & grid.ended[base])
    nodes = paired_ratio(logs, rng) if len(logs) else None
    return nodes, paired_ratio((time[k] - time[base]).mean(1), rng)


def _sizes(grid: Grid, k: int) -> _Sizes:
    """The five numbers of a summary that are about trees, in its order."""
    common = grid.common
    if not common.any():
        return None, None, None, None, None
    nodes, fair = grid.nodes[k], grid.fair_nodes[k]
    known = not np.isnan(fair).any()
    return (
        arithmetic_mean(_instance_means(nodes, common)),
        _over_seeds(np.maximum(nodes, 1.0), common),
        _over_seeds(np.maximum(fair, 1.0), common) if known else None,
        arithmetic_mean(_instance_means(grid.decisions[k], common)),
        seed_spread(np.where(common, nodes, np.nan)),
    )


def _over_seeds(values: Floats, mask: NDArray[np.bool_] | None, shift: float = 0.0) -> Estimate:
    """Geometric mean over instances of geometric means over seeds."""
    whole = np.ones(values.shape, dtype=bool) if mask is None else mask
    logs = _instance_means(np.log(values + shift), whole)
    return _exponential(arithmetic_mean(logs), shift)


def _instance_means(values: Floats, mask: NDArray[np.bool_]) -> Floats:
    """[J] means over seeds where the mask holds, of instances where it does at all."""
    some = mask.any(1)
    sums = np.where(mask, values, 0.0).sum(1)[some]
    return np.asarray(sums / mask.sum(1)[some])


def _exponential(logs: Estimate, shift: float) -> Estimate:
    scale = math.exp(logs.mean)
    return Estimate(scale - shift, scale * logs.se, logs.n)


def _fair(grid: Grid) -> Floats:
    """Fair nodes, or nodes where they are not known."""
    return np.where(np.isnan(grid.fair_nodes), grid.nodes, grid.fair_nodes)


def _vector(values: Floats) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or len(found) == 0:
        raise ShapeError(f"expected a vector of values, got shape {found.shape}")
    return found
