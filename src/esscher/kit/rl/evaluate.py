"""The protocol of evaluation: what is reported of several runs, with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esscher.core.estimate import Estimate
from esscher.errors import ConfigError, DataError

__all__ = ["bootstrap_interval", "iqm", "last_k_mean", "normalised_score", "seed_estimate"]


def last_k_mean(scores: Sequence[float], k: int = 5) -> float:
    """Mean of the last k evaluations of a run, of all where there are fewer.

    Not the best one: picking by the score that is reported needs the environment.

    Raises:
        ConfigError: if k < 1.
        DataError: if there are no scores.
    """
    if k < 1:
        raise ConfigError(f"last_k_mean needs k >= 1, got {k}")
    return float(_scores(scores)[-k:].mean())


def iqm(scores: ArrayLike) -> float:
    """Interquartile mean: of the middle half of all scores, fractions of a score counted as such.

    Reference:
        Agarwal et al. (2021), "Deep reinforcement learning at the edge of the statistical
        precipice".

    Raises:
        DataError: if there are no scores, or one is not finite.
    """
    ordered = np.sort(_scores(scores))
    n = len(ordered)
    # The share of score i that lies within the quantiles 1/4 and 3/4.
    edges = np.arange(n + 1) / n
    share = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    return float((share * ordered).sum() / share.sum())


def bootstrap_interval(
    scores: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], float],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_boot: int = 2000,
) -> tuple[float, float]:
    """Percentile interval of a statistic of independent scores.

    Raises:
        DataError: if there are no scores, or one is not finite.
        ConfigError: unless 0 < level < 1 and n_boot >= 2.
    """
    values = _scores(scores)
    if not 0 < level < 1 or n_boot < 2:
        raise ConfigError(f"expected 0 < level < 1 and n_boot >= 2, got {level} and {n_boot}")
    rows = rng.integers(len(values), size=(n_boot, len(values)))
    found = np.array([statistic(values[row]) for row in rows])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def normalised_score(value: float, random: float, expert: float) -> float:
    """100 for the expert's return, 0 for the random policy's.

    Raises:
        ConfigError: if both are equal.
    """
    if random == expert:
        raise ConfigError(f"random and expert have the same return {random:g}; no scale is left")
    return 100 * (value - random) / (expert - random)


def seed_estimate(values: ArrayLike) -> Estimate:
    """Mean over seeds with its standard error.

    Raises:
        DataError: if there are no values, or one is not finite.
    """
    scores = _scores(values)
    se = float(scores.std(ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else math.inf
    return Estimate(float(scores.mean()), se, len(scores))


def _scores(values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64).ravel()
    if not len(scores):
        raise DataError("expected at least one score, got none")
    if not bool(np.isfinite(scores).all()):
        raise DataError(f"scores must be finite, got {scores.tolist()}")
    return scores
