"""Steps out of local optima: reorder, merge and split components, kept only where the bound rises.

Reference: Ueda et al. (2000) and Hughes and Sudderth (2013) for merges and splits that the bound
judges. The order of atoms matters as sticks are broken one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import eigh

from esscher.novelty.cavi import Fit, ascend, bound_of_sums, globals_of_sums
from esscher.novelty.model import Prior
from esscher.novelty.niw import Array, Index, squared_distances
from esscher.novelty.sweep import Batch, sums_of

__all__ = ["improve"]

EMPTY = 0.5
"""Rows an atom must hold to count as used."""
SWEEPS = 8
"""Of an ascent that tries a change."""
NEIGHBOURS = 3
"""Components each atom is tried to be merged with."""


def improve(prior: Prior, y: Array | Batch, fit: Fit, *, max_iter: int, tol: float) -> Fit:
    """The best fit that changes of one or two components lead to.

    Every candidate is tried by a few sweeps and goes on to the end where its bound is higher than
    the present one by more than the tolerance; the search ends where none is.
    """
    batch = y if isinstance(y, Batch) else Batch(y)
    fit = _reordered(prior, batch, fit, max_iter, tol)
    found: Fit | None = fit
    while found is not None:
        fit = found
        found = next(_better(prior, batch, fit, max_iter, tol), None)
    return fit


def _better(prior: Prior, batch: Batch, fit: Fit, max_iter: int, tol: float) -> Iterator[Fit]:
    """Fits above this one, each a change away, best guesses first."""
    least = fit.elbo + tol * len(batch)
    for phi in _candidates(prior, batch.y, fit):
        tried = ascend(prior, batch, phi, max_iter=SWEEPS, tol=tol)
        if tried.elbo <= least:
            continue
        done = ascend(prior, batch, tried.phi, max_iter=max_iter, tol=tol)
        done = _reordered(prior, batch, done, max_iter, tol)
        if done.elbo > least:
            yield done._replace(path=fit.path + done.path)


def _reordered(prior: Prior, batch: Batch, fit: Fit, max_iter: int, tol: float) -> Fit:
    """The same with atoms in falling order of size, where the bound likes that better."""
    j = prior.n_known
    order = np.argsort(-fit.phi[:, j:].sum(0), kind="stable")
    if bool((order == np.arange(len(order))).all()):
        return fit
    phi = fit.phi[:, np.append(np.arange(j), j + order)]
    sums = sums_of(batch, phi.T)
    if bound_of_sums(prior, globals_of_sums(prior, sums, fit.posterior), sums) <= fit.elbo:
        return fit
    done = ascend(prior, batch, phi, max_iter=max_iter, tol=tol)
    return done._replace(path=fit.path + done.path) if done.elbo > fit.elbo else fit


def _candidates(prior: Prior, y: Array, fit: Fit) -> Iterator[Array]:
    """Responsibilities with two components merged, or one split in two."""
    counts = fit.phi.sum(0)
    used = np.flatnonzero(counts > EMPTY)
    atoms = used[used >= prior.n_known]
    centres = fit.posterior.components
    for atom in atoms:
        others = used[used != atom]
        near = squared_distances(
            centres.mean[others], centres.mean[[atom]], centres.whitener[[atom]]
        )[:, 0]
        for other in others[np.argsort(near)[:NEIGHBOURS]]:
            if other < prior.n_known or other < atom:
                yield _merged(fit.phi, atom, other)
    spare = np.flatnonzero(counts[prior.n_known :] <= EMPTY) + prior.n_known
    if not len(spare):
        return
    for k in used[np.argsort(-counts[used])]:
        for away in _halves(prior, y, fit.phi, k):
            yield _split(fit.phi, k, int(spare[0]), away)


def _merged(phi: Array, atom: int, other: int) -> Array:
    out = phi.copy(order="K")
    out[:, other] += out[:, atom]
    out[:, atom] = 0.0
    return out


def _split(phi: Array, k: int, spare: int, away: Index) -> Array:
    out = phi.copy(order="K")
    out[away, spare] += out[away, k]
    out[away, k] = 0.0
    return out


def _halves(prior: Prior, y: Array, phi: Array, k: int) -> Iterator[Index]:
    """Rows of a component that may be another: along its longest axis, and far from its prior."""
    rows = np.flatnonzero(phi[:, k] > 0.5).astype(np.int64)
    p = y.shape[1]
    own = y[rows]
    if len(rows) < 2 * (p + 1) or bool((own == own[0]).all()):
        return
    average = own.mean(0)
    covariance = np.atleast_2d(np.cov(own, rowvar=False))
    _, axes = eigh(covariance, subset_by_index=[p - 1, p - 1])
    along = (own - average) @ axes[:, 0]
    # Halves of the range, where ties at the median leave no upper half by count.
    cut = (
        np.median(along)
        if bool((along > np.median(along)).any())
        else (min(along) + max(along)) / 2
    )
    sides = [rows[along > cut], rows[along <= cut]]
    if k < prior.n_known:
        base = prior.components
        far = squared_distances(own, base.mean[[k]], base.whitener[[k]])[:, 0]
        # A known class keeps what its own law expects.
        yield rows[far > np.quantile(far, 0.5)]
        distance = [float(np.square(y[s].mean(0) - base.mean[k]).sum()) for s in sides]
        yield sides[int(np.argmax(distance))]
    else:
        yield sides[0]
