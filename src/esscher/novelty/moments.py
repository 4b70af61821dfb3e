"""Rows as features, and weighted sums of these: both halves of a sweep as matrix products.

A row y has F = 1 + p + p (p + 1) / 2 features: 1, its columns and their products, about an origin.
An expected log-density is linear in them, and the sums of them, weighted by responsibilities, are
all that a conjugate update needs.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from esscher.novelty.niw import NIW, Array, Index

__all__ = ["coefficients", "features", "n_features", "niw_from_moments", "translated"]

EMPTY = 1e-10
"""Rows a component must hold for its law to differ from its prior."""


def n_features(p: int) -> int:
    """F."""
    return 1 + p + p * (p + 1) // 2


def features(y: Array, out: Array | None = None) -> Array:
    """[F, M] of rows [M, p] that are already about their origin.

    Args:
        y: rows.
        out: where to put them.
    """
    m, p = y.shape
    out = np.empty((n_features(p), m)) if out is None else out
    out[0] = 1.0
    columns = out[1 : p + 1]
    columns[...] = y.T
    at = p + 1
    for i in range(p):
        np.multiply(columns[i], columns[i:], out=out[at : at + p - i])
        at += p - i
    return out


def coefficients(law: NIW, origin: Array) -> Array:
    """[K, F] whose product with features is E[log N(y | μ, Σ)], nats.

    Args:
        law: K laws.
        origin: [p], or [K, p] for an origin each.
    """
    p = law.dim
    precision = law.dof[:, None, None] * (law.whitener @ law.whitener.transpose(0, 2, 1))
    centre = law.mean - origin
    slope = (precision @ centre[:, :, None])[:, :, 0]
    out = np.empty((len(law), n_features(p)))
    out[:, 0] = law.log_constant - 0.5 * (centre * slope).sum(1)
    out[:, 1 : p + 1] = slope
    rows, columns = _pairs(p)
    out[:, p + 1 :] = precision[:, rows, columns]
    out[:, p + 1 :] *= np.where(rows == columns, -0.5, -1.0)
    return out


def niw_from_moments(prior: NIW, moments: Array, origin: Array) -> NIW:
    """The conjugate update by weighted sums of features.

    Args:
        prior: K laws.
        moments: [K, F] sums.
        origin: [p] or [K, p] that the features were about.
    """
    p = prior.dim
    counts = moments[:, 0]
    used = counts > EMPTY
    kappa, dof = prior.kappa + counts, prior.dof + counts
    average = moments[:, 1 : p + 1] / np.where(used, counts, 1.0)[:, None]
    shift = np.where(used[:, None], average + origin - prior.mean, 0.0)
    gain = counts / kappa
    between = (prior.kappa * gain)[:, None, None] * _outer(shift)
    within = moments[:, p + 1 :][:, _places(p)] - counts[:, None, None] * _outer(average)
    scale = prior.scale + np.where(used[:, None, None], within + between, 0.0)
    return NIW(prior.mean + gain[:, None] * shift, kappa, dof, scale)


def translated(moments: Array, origin: Array, to: Array) -> Array:
    """Sums of features about other origins.

    Args:
        moments: [K, F] about the first.
        origin: [K, p].
        to: [K, p].
    """
    p = to.shape[1]
    step = origin - to
    if not step.any():
        return moments
    counts, sums = moments[:, :1], moments[:, 1 : p + 1]
    rows, columns = _pairs(p)
    cross = sums[:, rows] * step[:, columns] + step[:, rows] * sums[:, columns]
    out = moments.copy()
    out[:, 1 : p + 1] += counts * step
    out[:, p + 1 :] += cross + counts * step[:, rows] * step[:, columns]
    return out


def _outer(x: Array) -> Array:
    found: Array = x[:, :, None] * x[:, None, :]
    return found


@lru_cache
def _pairs(p: int) -> tuple[Index, Index]:
    """Columns i <= j of each product."""
    rows, columns = np.triu_indices(p)
    return rows, columns


@lru_cache
def _places(p: int) -> Index:
    """[p, p] place of each product among the p (p + 1) / 2."""
    out = np.empty((p, p), dtype=np.int64)
    rows, columns = _pairs(p)
    out[rows, columns] = out[columns, rows] = np.arange(len(rows))
    return out
