"""A number with its uncertainty, and the generic ways to get one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from scipy.special import betaincinv, ndtri
from torch import Tensor

from esscher.errors import ConfigError, DataError, NumericsError, ShapeError

__all__ = ["Estimate", "bootstrap", "clopper_pearson", "from_samples"]


@dataclass(frozen=True)
class Estimate:
    """A Monte-Carlo number: what it is, how sure, from how much.

    Attributes:
        mean: the value; +-inf allowed (a KL where support was lost), NaN never.
        se: standard error in [0, inf]; inf means unknown (fewer than two samples).
        n: samples behind it, at least 1.
        ess: effective sample size in (0, n] where samples were weighted.
        unit: "nats" or "".

    Raises:
        NumericsError: if mean or se is NaN or se is negative.
        ConfigError: if n < 1.
    """

    mean: float
    se: float
    n: int
    ess: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if math.isnan(self.mean) or not self.se >= 0.0:
            raise NumericsError(f"Estimate needs a mean and se >= 0, got {self.mean} ± {self.se}")
        if self.n < 1:
            raise ConfigError(f"Estimate needs at least one sample, got n={self.n}")

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Normal confidence interval at a level in (0, 1); unbounded where se is inf."""
        _check_level(level)
        if math.isinf(self.mean) or math.isinf(self.se):
            return (-math.inf, math.inf)
        half = float(ndtri(0.5 + level / 2)) * self.se
        return (self.mean - half, self.mean + half)

    def to_json(self) -> dict[str, float | int | None]:
        """{"mean", "se", "n"} and "ess" where known; None stands for an infinite value."""
        out: dict[str, float | int | None] = {
            "mean": self.mean if math.isfinite(self.mean) else None,
            "se": self.se if math.isfinite(self.se) else None,
            "n": self.n,
        }
        return out if self.ess is None else out | {"ess": self.ess}

    def __format__(self, spec: str) -> str:
        digits = _digits(self.se)
        mean = format(self.mean, spec or f".{digits}f")
        se = format(self.se, spec or f".{digits}f") if math.isfinite(self.se) else "?"
        unit = f" {self.unit}" if self.unit else ""
        return f"{mean} ± {se}{unit} (n={self.n})"

    def __str__(self) -> str:
        return format(self, "")


def from_samples(values: Tensor, *, unit: str = "") -> Estimate:
    """Mean of independent values [N] with its standard error.

    Infinite values of one sign give an infinite mean with se = inf; one value has se = inf.

    Raises:
        ShapeError: if values is not a non-empty vector.
        NumericsError: if a value is NaN, or both infinities occur.
    """
    if values.ndim != 1 or len(values) == 0:
        raise ShapeError(f"expected a non-empty vector of values, got {tuple(values.shape)}")
    v = values.detach().to(torch.float64)
    mean, n = float(v.mean()), len(v)
    if math.isnan(mean):
        raise NumericsError(f"no mean exists: {int(v.isnan().sum())} of {n} values are NaN")
    if n < 2 or math.isinf(mean):
        return Estimate(mean, math.inf, n, unit=unit)
    return Estimate(mean, float(v.std()) / math.sqrt(n), n, unit=unit)


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact confidence interval for a probability after k successes in n trials.

    With k = 0 its upper end is close to 3.7 / n (two-sided), the one-sided bound to 3 / n.

    Raises:
        ConfigError: unless 0 <= k <= n, n >= 1 and 0 < level < 1.

    Reference:
        Clopper, Pearson (1934).
    """
    _check_level(level)
    if not (n >= 1 and 0 <= k <= n):
        raise ConfigError(f"expected 0 <= k <= n and n >= 1, got k={k}, n={n}")
    tail = (1 - level) / 2
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    return (low, high)


def bootstrap(
    *values: Tensor,
    statistic: Callable[..., Any],
    rng: torch.Generator,
    n_boot: int = 1000,
    unit: str = "",
) -> Estimate:
    """Any statistic of paired samples with a bootstrap standard error.

    Args:
        values: tensors [N, ...] resampled together along their first axis.
        statistic: called with the resampled tensors, returns one number.
        rng: source of randomness.
        n_boot: resamples, at least 2.
        unit: of the statistic.

    Raises:
        DataError: if there are no values or they differ in length.
        ConfigError: if n_boot < 2.

    Reference:
        Efron (1979).
    """
    lengths = {len(v) for v in values}
    if len(lengths) != 1 or 0 in lengths:
        raise DataError(f"bootstrap needs values of one length >= 1, got {sorted(lengths)}")
    if n_boot < 2:
        raise ConfigError(f"bootstrap needs n_boot >= 2, got {n_boot}")
    n = lengths.pop()
    replicates = torch.empty(n_boot, dtype=torch.float64)
    for b in range(n_boot):
        rows = torch.randint(n, (n,), generator=rng)
        replicates[b] = float(statistic(*(v[rows] for v in values)))
    return Estimate(float(statistic(*values)), float(replicates.std()), n, unit=unit)


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must be in (0, 1), got {level}")


def _digits(se: float) -> int:
    """Decimals that show two significant digits of se."""
    if not 0.0 < se < math.inf:
        return 3
    return min(max(1 - math.floor(math.log10(se)), 0), 12)
