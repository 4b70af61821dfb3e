"""Coordinate ascent on the evidence lower bound: updates, bound, loop.

q(ξ_m) = Categorical(φ_m). Given φ all other factors are independent, so that one sweep is an
update of φ and an update of the rest. Equations: Blei and Jordan (2006) for the sticks, Bishop
(2006, 10.2) for mixtures of Gaussians; the known classes have priors of their own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import xlogy

from esscher.novelty.model import Posterior, Prior
from esscher.novelty.moments import niw_from_moments
from esscher.novelty.niw import NIW, Array, expected_log_density, kl_niw, log_evidence
from esscher.novelty.sweep import STRAIN, Batch, Sums, expect, strain, sums_of
from esscher.novelty.weights import (
    concentration_posterior,
    dirichlet_evidence,
    dirichlet_posterior,
    expected_log_weights,
    kl_dirichlet,
    kl_sticks,
    mean_concentration,
    stick_evidence,
    stick_posterior,
)

__all__ = [
    "Fit",
    "ascend",
    "bound",
    "bound_of_sums",
    "collapsed_bound",
    "component_posterior",
    "globals_of",
    "globals_of_sums",
    "responsibilities",
]

SMALL = 1e-12
"""Responsibilities below this leave the sums of a component."""
GROWTH = 1.2
"""Of the step of over-relaxed sweeps, after each that raised the bound."""


class Fit(NamedTuple):
    """Where an ascent ended.

    Attributes:
        posterior: the global factors.
        phi: [M, J + T] responsibilities.
        path: the bound after every sweep, nats.
        converged: whether the last sweep raised it by less than the tolerance.
    """

    posterior: Posterior
    phi: Array
    path: list[float]
    converged: bool

    @property
    def elbo(self) -> float:
        """The bound at the end."""
        return self.path[-1]


def responsibilities(q: Posterior, y: Array) -> tuple[Array, float]:
    """φ [M, J + T] that is best given the rest, and Σ_m log Σ_k exp(...), nats."""
    scores = expected_log_density(q.components, y)
    scores += expected_log_weights(q)
    top = scores.max(1, keepdims=True)
    scores -= top
    np.exp(scores, out=scores)
    total = scores.sum(1, keepdims=True)
    scores /= total
    return scores, float((top + np.log(total)).sum())


def globals_of(prior: Prior, y: Array, phi: Array, before: Posterior | None = None) -> Posterior:
    """All other factors, which are best given φ.

    Args:
        prior: the model.
        y: [M, p] rows.
        phi: [M, J + T].
        before: the last posterior, whose sticks a learnt concentration follows.
    """
    counts = phi.sum(0)
    return _globals(prior, counts, component_posterior(prior.components, y, phi, counts), before)


def globals_of_sums(prior: Prior, sums: Sums, before: Posterior | None = None) -> Posterior:
    """The same from sums over the rows."""
    components = niw_from_moments(prior.components, sums.moments, sums.origin)
    return _globals(prior, sums.counts, components, before)


def _globals(prior: Prior, counts: Array, components: NIW, before: Posterior | None) -> Posterior:
    learnt = concentration_posterior(prior, before)
    sticks = stick_posterior(counts[prior.n_known :], mean_concentration(prior, learnt))
    dirichlet = dirichlet_posterior(prior, counts)
    return Posterior(components, prior.n_known, dirichlet, sticks, learnt)


def component_posterior(prior: NIW, y: Array, phi: Array, counts: Array) -> NIW:
    """The conjugate update by weighted rows, each component's about its own mean."""
    kappa, dof = prior.kappa + counts, prior.dof + counts
    mean, scale = prior.mean.copy(), prior.scale.copy()
    for k in np.flatnonzero(counts > SMALL):
        used = np.flatnonzero(phi[:, k] > SMALL)
        if not len(used):
            continue
        rows, weight = y[used], phi[used, k]
        average = weight @ rows / weight.sum()
        centred = (rows - average) * np.sqrt(weight)[:, None]
        shift = average - prior.mean[k]
        mean[k] += counts[k] / kappa[k] * shift
        scale[k] += centred.T @ centred
        scale[k] += prior.kappa[k] * counts[k] / kappa[k] * np.outer(shift, shift)
    return NIW(mean, kappa, dof, scale)


def bound(prior: Prior, q: Posterior, y: Array, phi: Array) -> float:
    """The evidence lower bound at any φ and any q, every constant included, nats."""
    scores = expected_log_density(q.components, y) + expected_log_weights(q)
    found = float((phi * scores).sum() - xlogy(phi, phi).sum())
    found -= kl_dirichlet(q, prior) + kl_sticks(q, prior)
    return found - float(kl_niw(q.components, prior.components).sum())


def collapsed_bound(prior: Prior, q: Posterior, phi: Array) -> float:
    """The same where q is `globals_of` this φ, without a look at the rows."""
    return _collapsed(prior, q, phi.sum(0), -float(xlogy(phi, phi).sum()))


def bound_of_sums(prior: Prior, q: Posterior, sums: Sums) -> float:
    """The same where q is `globals_of_sums` these."""
    return _collapsed(prior, q, sums.counts, sums.entropy)


def _collapsed(prior: Prior, q: Posterior, counts: Array, entropy: float) -> float:
    found = entropy + dirichlet_evidence(prior, q) + stick_evidence(prior, q)
    return found + float(log_evidence(q.components, prior.components, counts).sum())


class _Place(NamedTuple):
    """A posterior, the sums it is best for, and the bound there."""

    q: Posterior
    sums: Sums
    bound: float


def ascend(
    prior: Prior, y: Array | Batch, phi: Array, *, max_iter: int = 1000, tol: float = 1e-7
) -> Fit:
    """Sweep from given responsibilities until the bound stands still.

    Sweeps are over-relaxed: the sums go on along their last change, farther after every success.
    Where that does not raise the bound a plain sweep follows, so that the path never falls.

    Args:
        prior: the model.
        y: [M, p] rows, or the batch made of them.
        phi: [M, J + T] responsibilities to begin with.
        max_iter: most sweeps, at least 1.
        tol: a sweep that raises the bound by less than this many nats per row is the last.

    Reference: Salakhutdinov and Roweis (2003), adaptive overrelaxed bound optimization.
    """
    batch = y if isinstance(y, Batch) else Batch(y)
    table = np.array(phi.T, order="C")
    here = _place(prior, batch, sums_of(batch, table), table, None)
    last, reach, path = here, 1.0, [here.bound]
    for _ in range(max_iter):
        beyond = _beyond(prior, here, last.sums, reach)
        last, here = here, _swept(prior, batch, here.q if beyond is None else beyond, table)
        if beyond is not None and not here.bound > last.bound:
            beyond, here = None, _swept(prior, batch, last.q, table)
        reach = GROWTH if beyond is None else reach * GROWTH
        path.append(here.bound)
        if path[-1] - path[-2] < tol * len(batch):
            return Fit(here.q, table.T, path, converged=True)
    return Fit(here.q, table.T, path, converged=False)


def _swept(prior: Prior, batch: Batch, q: Posterior, table: Array) -> _Place:
    return _place(prior, batch, expect(prior, q, batch, out=table), table, q)


def _place(
    prior: Prior, batch: Batch, sums: Sums, table: Array, before: Posterior | None
) -> _Place:
    """The globals, from the rows themselves where sums about a far origin would be too inexact."""
    q = globals_of_sums(prior, sums, before)
    strained = strain(q.components, batch.reach) > STRAIN
    if bool((strained & (sums.origin == batch.origin).all(1)).any()):
        q = globals_of(prior, batch.y, table.T, before)
    return _Place(q, sums, bound_of_sums(prior, q, sums))


def _beyond(prior: Prior, here: _Place, last: Sums, reach: float) -> Posterior | None:
    """The globals of sums that went on in their direction; None where there are none."""
    sums = here.sums
    if reach <= 1 or not np.array_equal(sums.origin, last.origin):
        return None
    moments = sums.moments + (reach - 1) * (sums.moments - last.moments)
    if bool((moments[:, 0] < 0).any()):
        return None
    q = globals_of_sums(prior, Sums(moments, sums.origin, 0.0), here.q)
    try:
        np.linalg.cholesky(q.components.scale)
    except np.linalg.LinAlgError:
        return None
    return q
