"""Stage 1: where each known class is and how it spreads, whatever some of its labels say."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import chi2

from esscher.errors import ConfigError, DataError
from esscher.kit.require import require
from esscher.novelty.niw import Array, Index

__all__ = ["ClassEstimate", "Method", "class_estimate", "mrcd"]

Method = Literal["mcd", "mrcd", "empirical"]
SUSPECT = 0.975
"""Quantile of the χ² law beyond which a training row is suspect."""
ENOUGH = 10
"""Rows per column from which distances follow χ² well enough to weigh rows by them."""


@dataclass(frozen=True)
class ClassEstimate:
    """A known class as its training rows show it.

    Attributes:
        location: [p].
        covariance: [p, p], positive definite.
        n: rows it was estimated from.
        distance: [n] squared robust distance of every row.
        suspect: [n] rows whose distance is beyond the 97.5 % quantile of χ² with p degrees.
        method: what was used in the end.
    """

    location: Array
    covariance: Array
    n: int
    distance: Array
    suspect: Array
    method: str


def class_estimate(
    rows: Array,
    label: object,
    method: Method = "mcd",
    *,
    support: float | None = None,
    random_state: int | None = None,
) -> ClassEstimate:
    """Location and covariance of one class.

    Args:
        rows: [n, p].
        label: named in messages.
        method: "mcd" (minimum covariance determinant, reweighted), "mrcd" (its regularised form,
            for p near or above n) or "empirical" (plain mean and covariance).
        support: share of the rows kept, in [0.5, 1]; by default the smallest that is robust.
        random_state: of the subsets "mcd" starts from.

    Raises:
        DataError: if the class has one row.
        ConfigError: if method or support do not exist.

    Reference: Rousseeuw and Van Driessen (1999); Boudt et al. (2020) for the regularised form.
    """
    n, p = rows.shape
    if n < 2:
        raise DataError(f"class {label!r} has one training row, and no spread can be seen from it")
    if support is not None and not 0.5 <= support <= 1:
        raise ConfigError(f"support must lie in [0.5, 1], got {support}")
    if method not in ("mcd", "mrcd", "empirical"):
        raise ConfigError(f"robust must be mcd, mrcd or empirical, got {method!r}")
    used: str = method
    if method == "mcd" and n < 5 * p:
        used = "mrcd"
        warnings.warn(
            f"class {label!r} has {n} rows in {p} columns, too few for the minimum covariance "
            "determinant; its regularised form is used",
            UserWarning,
            stacklevel=2,
        )
    if used == "mcd":
        location, covariance = _mcd(rows, support, random_state)
    elif used == "mrcd":
        location, covariance = mrcd(rows, 0.75 if support is None else support)
    else:
        location, covariance = rows.mean(0), np.atleast_2d(np.cov(rows, rowvar=False))
    covariance = _definite(covariance, label)
    centred = rows - location
    distance = np.einsum("np,np->n", centred, np.linalg.solve(covariance, centred.T).T)
    return ClassEstimate(location, covariance, n, distance, distance > chi2.ppf(SUSPECT, p), used)


def _mcd(rows: Array, support: float | None, random_state: int | None) -> tuple[Array, Array]:
    sklearn = require("sklearn.covariance", extra="sklearn")
    model = sklearn.MinCovDet(support_fraction=support, random_state=random_state)
    with warnings.catch_warnings():
        # A singular or growing determinant: constant columns, which get their ridge afterwards.
        warnings.filterwarnings("ignore", "The covariance matrix associated", UserWarning)
        warnings.filterwarnings("ignore", "Determinant has increased", RuntimeWarning)
        model.fit(rows)
    return model.location_, model.covariance_


def _definite(covariance: Array, label: object) -> Array:
    """The same, with a ridge where columns are constant or copies of each other."""
    variance = np.diag(covariance)
    some = variance[variance > 0]
    # A constant column gets the spread of the others, of which the ridge is a millionth.
    unit = np.where(variance > 0, variance, some.mean() if len(some) else 1.0)
    root = np.sqrt(unit)
    if float(np.linalg.eigvalsh(covariance / np.outer(root, root))[0]) > 1e-10:
        return covariance
    warnings.warn(
        f"the rows of class {label!r} lie in a plane (constant columns, or copies of each other); "
        "a millionth was added to their variances",
        UserWarning,
        stacklevel=3,
    )
    return covariance + 1e-6 * np.diag(unit)


def mrcd(rows: Array, support: float) -> tuple[Array, Array]:
    """Minimum regularised covariance determinant, from deterministic starts.

    The covariance is ρ T + (1 - ρ) c S over the h rows of smallest distance, with T the diagonal
    of squared robust scales and ρ the least that keeps the condition number at 50 or below. Where
    there are ten rows or more per column one step of reweighting follows, as in the minimum
    covariance determinant; with fewer it would make classes too narrow.

    Reference: Boudt, Rousseeuw, Vanduffel and Verdonck (2020), section 3, whose authors' code ends
    before the reweighting; Rousseeuw and Van Driessen (1999) for that.
    """
    n, p = rows.shape
    h = max(2, math.ceil(support * n))
    scale = _spread(rows)
    z = (rows - np.median(rows, axis=0)) / scale
    starts = _first_subsets(z, h)
    weights = [_least_weight(np.atleast_2d(np.cov(z[s], rowvar=False)), h, n, p) for s in starts]
    rho = max(weights) if max(weights) <= 0.1 else max(0.1, float(np.median(weights)))
    subsets = [_concentrate(z, start, rho, h) for start in starts]
    values = [float(np.linalg.slogdet(_regular(z[s], rho, n))[1]) for s in subsets]
    subset = subsets[int(np.argmin(values))]
    if n >= ENOUGH * p:
        centre, regular = _reweighted(z, subset, rho)
    else:
        centre, regular = z[subset].mean(0), _regular(z[subset], rho, n)
    return np.median(rows, axis=0) + centre * scale, regular * np.outer(scale, scale)


def _reweighted(z: Array, subset: Index, rho: float) -> tuple[Array, Array]:
    """Mean and regularised covariance of all rows that the raw estimate finds near enough.

    The raw covariance is as if all rows left out were the tail of the class: it is too wide where
    many of them are bad. Which are, its distances tell; their median is brought to that of χ² as
    regularisation, or few rows, shift them all.
    """
    n, p = z.shape
    centred = z - z[subset].mean(0)
    regular = _regular(z[subset], rho, n)
    distance = np.einsum("np,np->n", centred, np.linalg.solve(regular, centred.T).T)
    distance *= chi2.ppf(0.5, p) / np.median(distance)
    near = distance <= chi2.ppf(SUSPECT, p)
    used = z[near]
    # What χ² leaves out of normal rows, whatever number of bad ones went with it.
    share = SUSPECT / chi2.cdf(chi2.ppf(SUSPECT, p), p + 2)
    covariance = share * np.atleast_2d(np.cov(used, rowvar=False, bias=True))
    return used.mean(0), rho * np.eye(p) + (1 - rho) * covariance


def _spread(rows: Array) -> Array:
    """[p] median absolute deviations as standard deviations; plain ones where these are 0."""
    mad = 1.4826 * np.median(np.abs(rows - np.median(rows, axis=0)), axis=0)
    found: Array = np.where(mad > 0, mad, rows.std(0))
    return np.where(found > 0, found, 1.0)


def _first_subsets(z: Array, h: int) -> list[Index]:
    """The h rows nearest to the median, by length and by the largest coordinate, and by ranks."""
    ranks = np.argsort(np.argsort(z, axis=0), axis=0) / len(z) - 0.5
    sizes = (np.square(z).sum(1), np.abs(z).max(1), np.square(ranks).sum(1))
    return [np.argsort(size, kind="stable")[:h].astype(np.int64) for size in sizes]


def _consistency(h: int, n: int, p: int) -> float:
    """What the covariance of the nearest h of n normal rows falls short by."""
    if h >= n:
        return 1.0
    share = h / n
    return float(share / chi2.cdf(chi2.ppf(share, p), p + 2))


def _least_weight(covariance: Array, h: int, n: int, p: int, condition: float = 50.0) -> float:
    """The least ρ for which ρ I + (1 - ρ) c S has the condition number or a smaller one."""
    values = np.linalg.eigvalsh(covariance) * _consistency(h, n, p)
    low, high = max(float(values[0]), 0.0), float(values[-1])
    if high <= condition * low:
        return 0.0
    # (ρ + (1 - ρ) high) = condition (ρ + (1 - ρ) low), linear in ρ.
    gap = high - condition * low
    return gap / (gap + condition - 1)


def _regular(z: Array, rho: float, n: int) -> Array:
    h, p = z.shape
    covariance = np.atleast_2d(np.cov(z, rowvar=False, bias=True)) * _consistency(h, n, p)
    return rho * np.eye(p) + (1 - rho) * covariance


def _concentrate(z: Array, subset: Index, rho: float, h: int) -> Index:
    """Steps to the h rows nearest by the regularised covariance until they stay the same."""
    for _ in range(100):
        centred = z - z[subset].mean(0)
        regular = _regular(z[subset], rho, len(z))
        distance = np.einsum("np,np->n", centred, np.linalg.solve(regular, centred.T).T)
        following = np.sort(np.argsort(distance, kind="stable")[:h]).astype(np.int64)
        if np.array_equal(following, subset):
            break
        subset = following
    return subset
