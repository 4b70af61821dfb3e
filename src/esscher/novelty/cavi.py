"""Coordinate ascent on the evidence lower bound: updates, bound, loop.

q(ξ_m) = Categorical(φ_m). Given φ all other factors are independent, so that one sweep is an
update of φ and an update of the rest. Equations: Blei and Jordan (2006) for the sticks, Bishop
(2006, 10.2) for mixtures of Gaussians; the known classes have priors of their own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import betaln, digamma, gammaln, xlogy

from esscher.novelty.model import GammaPrior, Posterior, Prior
from esscher.novelty.niw import NIW, Array, expected_log_density, kl_niw, log_evidence

__all__ = [
    "Fit",
    "ascend",
    "bound",
    "collapsed_bound",
    "component_posterior",
    "expected_log_weights",
    "globals_of",
    "responsibilities",
    "stick_evidence",
    "stick_posterior",
]

SMALL = 1e-12
"""Responsibilities below this leave the sums of a component."""


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


def expected_log_weights(q: Posterior) -> Array:
    """[J + T] E[log of the weight of each component]."""
    found = np.empty(len(q.components))
    shares = digamma(q.dirichlet) - digamma(q.dirichlet.sum())
    log_v, log_rest = _log_sticks(q)
    found[: q.n_known] = shares[1:]
    found[q.n_known :] = shares[0] + np.append(log_v, 0.0) + np.append(0.0, np.cumsum(log_rest))
    return found


def _log_sticks(q: Posterior) -> tuple[Array, Array]:
    """E[log V] and E[log(1 - V)], [T - 1] each."""
    total = digamma(q.sticks.sum(1))
    return digamma(q.sticks[:, 0]) - total, digamma(q.sticks[:, 1]) - total


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
    learnt = _concentration(prior, before)
    dirichlet = prior.dirichlet.copy()
    dirichlet[1:] += counts[: prior.n_known]
    dirichlet[0] += counts[prior.n_known :].sum()
    sticks = stick_posterior(counts[prior.n_known :], _mean_concentration(prior, learnt))
    components = component_posterior(prior.components, y, phi, counts)
    return Posterior(components, prior.n_known, dirichlet, sticks, learnt)


def stick_posterior(counts: Array, concentration: float) -> Array:
    """[T - 1, 2] of a_h = 1 + N_h and b_h = γ + Σ_{l > h} N_l."""
    later = np.cumsum(counts[::-1])[::-1]
    return np.stack([1.0 + counts[:-1], concentration + later[1:]], 1)


def component_posterior(prior: NIW, y: Array, phi: Array, counts: Array) -> NIW:
    """The conjugate update by weighted rows."""
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


def _concentration(prior: Prior, before: Posterior | None) -> GammaPrior | None:
    """q(γ) given the sticks: Gamma(s + T - 1, r - Σ E log(1 - V))."""
    if not isinstance(prior.concentration, GammaPrior):
        return None
    if before is None:
        return prior.concentration
    shape, rate = prior.concentration
    _, log_rest = _log_sticks(before)
    return GammaPrior(shape + len(log_rest), rate - float(log_rest.sum()))


def _mean_concentration(prior: Prior, learnt: GammaPrior | None) -> float:
    if learnt is not None:
        return learnt.shape / learnt.rate
    assert not isinstance(prior.concentration, GammaPrior)
    return prior.concentration


def _log_concentration(prior: Prior, learnt: GammaPrior | None) -> float:
    """E[log γ]."""
    if learnt is None:
        return math.log(_mean_concentration(prior, None))
    return float(digamma(learnt.shape) - math.log(learnt.rate))


def bound(prior: Prior, q: Posterior, y: Array, phi: Array) -> float:
    """The evidence lower bound at any φ and any q, every constant included, nats."""
    scores = expected_log_density(q.components, y) + expected_log_weights(q)
    found = float((phi * scores).sum() - xlogy(phi, phi).sum())
    found -= _kl_dirichlet(q.dirichlet, prior.dirichlet)
    a, b = q.sticks[:, 0], q.sticks[:, 1]
    log_v, log_rest = _log_sticks(q)
    gamma = _mean_concentration(prior, q.concentration)
    # E log p(V | γ) - E log q(V); with γ known this is -KL(Beta(a, b)‖Beta(1, γ)).
    found += len(a) * _log_concentration(prior, q.concentration)
    found += float(
        ((gamma - 1) * log_rest - (a - 1) * log_v - (b - 1) * log_rest + betaln(a, b)).sum()
    )
    return found - _kl_concentration(prior, q) - float(kl_niw(q.components, prior.components).sum())


def collapsed_bound(prior: Prior, q: Posterior, phi: Array) -> float:
    """The same where q is `globals_of` this φ, without a look at the rows."""
    counts = phi.sum(0)
    found = -float(xlogy(phi, phi).sum())
    found += float(gammaln(prior.dirichlet.sum()) - gammaln(prior.dirichlet).sum())
    found += float(gammaln(q.dirichlet).sum() - gammaln(q.dirichlet.sum()))
    found += stick_evidence(prior, q)
    return found + float(log_evidence(q.components, prior.components, counts).sum())


def stick_evidence(prior: Prior, q: Posterior) -> float:
    """What the sticks (and γ) add to the collapsed bound."""
    found = float(betaln(q.sticks[:, 0], q.sticks[:, 1]).sum())
    found += len(q.sticks) * _log_concentration(prior, q.concentration)
    return found - _kl_concentration(prior, q)


def _kl_dirichlet(eta: Array, alpha: Array) -> float:
    return float(
        gammaln(eta.sum())
        - gammaln(eta).sum()
        - gammaln(alpha.sum())
        + gammaln(alpha).sum()
        + ((eta - alpha) * (digamma(eta) - digamma(eta.sum()))).sum()
    )


def _kl_concentration(prior: Prior, q: Posterior) -> float:
    """KL(q(γ)‖p(γ)); 0 where γ is known."""
    if q.concentration is None:
        return 0.0
    assert isinstance(prior.concentration, GammaPrior)
    (s, r), (s0, r0) = q.concentration, prior.concentration
    return float(
        (s - s0) * digamma(s)
        - gammaln(s)
        + gammaln(s0)
        + s0 * (math.log(r) - math.log(r0))
        + s * (r0 - r) / r
    )


def ascend(prior: Prior, y: Array, phi: Array, *, max_iter: int = 1000, tol: float = 1e-7) -> Fit:
    """Sweep from given responsibilities until the bound stands still.

    Args:
        prior: the model.
        y: [M, p] rows.
        phi: [M, J + T] responsibilities to begin with.
        max_iter: most sweeps, at least 1.
        tol: a sweep that raises the bound by less than this many nats per row is the last.
    """
    q = globals_of(prior, y, phi)
    path = [collapsed_bound(prior, q, phi)]
    for _ in range(max_iter):
        phi, _ = responsibilities(q, y)
        q = globals_of(prior, y, phi, q)
        path.append(collapsed_bound(prior, q, phi))
        if path[-1] - path[-2] < tol * len(y):
            return Fit(q, phi, path, converged=True)
    return Fit(q, phi, path, converged=False)
