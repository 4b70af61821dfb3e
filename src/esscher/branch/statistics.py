"""Means, wins, spread over seeds, and paired ratios with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from esscher.core.estimate import Estimate, from_samples
from esscher.errors import DataError, ShapeError

__all__ = [
    "Ratio",
    "arithmetic_mean",
    "geometric_mean",
    "paired_ratio",
    "seed_spread",
    "wins",
]

Floats = NDArray[np.float64]
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
    scale = math.exp(logs.mean)
    return Estimate(scale - shift, scale * logs.se, logs.n)


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


def _vector(values: Floats) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or len(found) == 0:
        raise ShapeError(f"expected a vector of values, got shape {found.shape}")
    return found
