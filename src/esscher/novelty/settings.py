"""Priors by what they mean: how far stage 1 is trusted, and how wide novelties may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from esscher.errors import ConfigError, ShapeError
from esscher.novelty.niw import NIW, Array
from esscher.novelty.robust import ClassEstimate

__all__ = ["NIWPrior", "automatic_prior", "dirichlet_of", "inductive", "known_laws", "novel_law"]

FIXED = 1e8
"""Observations a class is worth that a batch cannot move."""


@dataclass(frozen=True)
class NIWPrior:
    """The law of a novelty's mean and covariance, in the units of the data.

    Attributes:
        mean: [p], or one number for all columns.
        kappa: pseudo-observations behind it, > 0.
        dof: degrees of freedom beyond p - 1, > 0; 3 makes them p + 2, the least whole number
            with an expected covariance.
        covariance: [p, p], [p] variances or one variance, > 0: the scale matrix is this times
            max(dof - 2, 1), so that from 3 up it is the covariance expected.
    """

    mean: ArrayLike = 0.0
    kappa: float = 0.1
    dof: float = 3.0
    covariance: ArrayLike = 1.0


def known_laws(estimates: Sequence[ClassEstimate], trust: float) -> NIW:
    """Known classes worth `trust` observations each, or all they have: E[Σ] is the estimate.

    Raises:
        ConfigError: if trust is not positive.
    """
    if not trust > 0:
        raise ConfigError(f"known_trust must be positive, got {trust}")
    p = len(estimates[0].location)
    worth = np.array([min(float(trust), e.n) for e in estimates])
    return NIW(
        np.stack([e.location for e in estimates]),
        worth,
        worth + p + 1.0,
        worth[:, None, None] * np.stack([e.covariance for e in estimates]),
    )


def inductive(laws: NIW) -> NIW:
    """The same with means and expected covariances that no batch moves.

    Raises:
        ConfigError: if a law has no expected covariance.
    """
    k, p = laws.mean.shape
    worth = np.full(k, FIXED)
    return NIW(laws.mean, worth, worth + p + 1.0, FIXED * laws.covariance())


def novel_law(prior: NIWPrior, p: int) -> NIW:
    """One law in p dimensions.

    Raises:
        ConfigError, ShapeError: naming the part that does not fit.
    """
    mean = np.asarray(prior.mean, dtype=float)
    covariance = np.asarray(prior.covariance, dtype=float)
    if mean.shape not in ((), (p,)):
        raise ShapeError(f"the novelties' mean needs {p} numbers, got {mean.shape}")
    if covariance.shape not in ((), (p,), (p, p)):
        raise ShapeError(f"the novelties' covariance must be [{p}, {p}], got {covariance.shape}")
    if covariance.ndim < 2:
        covariance = np.diag(np.broadcast_to(covariance, (p,)))
    if not (prior.kappa > 0 and prior.dof > 0):
        raise ConfigError(f"kappa and dof must be positive, got {prior.kappa} and {prior.dof}")
    return NIW(
        np.broadcast_to(mean, (1, p)).copy(),
        np.array([float(prior.kappa)]),
        np.array([p - 1.0 + prior.dof]),
        max(prior.dof - 2.0, 1.0) * covariance[None],
    )


def automatic_prior(estimates: Sequence[ClassEstimate]) -> NIWPrior:
    """A novelty may be anywhere among the known classes and is expected to be as wide as all.

    Mean: that of the classes' centres, worth a tenth of an observation. Covariance: diagonal, the
    variance of each column over all classes, within and between, at p + 2 degrees of freedom.
    """
    centres = np.stack([e.location for e in estimates])
    within = np.mean([np.diag(e.covariance) for e in estimates], axis=0)
    return NIWPrior(centres.mean(0), 0.1, 3.0, within + centres.var(0))


def dirichlet_of(value: float | ArrayLike, n_known: int) -> Array:
    """[J + 1] parameters from one number or all of them."""
    found = np.asarray(value, dtype=float)
    if found.shape == ():
        return np.full(n_known + 1, float(found))
    if found.shape != (n_known + 1,):
        raise ShapeError(f"dirichlet_prior needs 1 or {n_known + 1} numbers, got {found.shape}")
    return found
