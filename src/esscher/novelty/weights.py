"""Factors of the weights: Dirichlet, sticks and concentration.

Equations: Blei and Jordan (2006) for the sticks, with a Gamma factor for their concentration.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import betaln, digamma, gammaln

from esscher.novelty.model import GammaPrior, Posterior, Prior
from esscher.novelty.niw import Array

__all__ = [
    "concentration_posterior",
    "dirichlet_evidence",
    "dirichlet_posterior",
    "expected_log_weights",
    "kl_dirichlet",
    "kl_sticks",
    "mean_concentration",
    "stick_evidence",
    "stick_posterior",
]


def expected_log_weights(q: Posterior) -> Array:
    """[J + T] E[log of the weight of each component]."""
    found = np.empty(len(q.components))
    shares = digamma(q.dirichlet) - digamma(q.dirichlet.sum())
    log_v, log_rest = _log_sticks(q)
    found[: q.n_known] = shares[1:]
    found[q.n_known :] = shares[0]
    found[q.n_known : -1] += log_v
    found[q.n_known + 1 :] += np.cumsum(log_rest)
    return found


def _log_sticks(q: Posterior) -> tuple[Array, Array]:
    """E[log V] and E[log(1 - V)], [T - 1] each."""
    each = digamma(q.sticks)
    each -= digamma(q.sticks.sum(1))[:, None]
    return each[:, 0], each[:, 1]


def dirichlet_posterior(prior: Prior, counts: Array) -> Array:
    """[J + 1] of α and the rows [J + T] that classes, and novelties together, hold."""
    found = prior.dirichlet.copy()
    found[1:] += counts[: prior.n_known]
    found[0] += counts[prior.n_known :].sum()
    return found


def stick_posterior(counts: Array, concentration: float) -> Array:
    """[T - 1, 2] of a_h = 1 + N_h and b_h = γ + Σ_{l > h} N_l."""
    later = np.cumsum(counts[::-1])[::-1]
    return np.stack([1.0 + counts[:-1], concentration + later[1:]], 1)


def concentration_posterior(prior: Prior, before: Posterior | None) -> GammaPrior | None:
    """q(γ) given the sticks: Gamma(s + T - 1, r - Σ E log(1 - V)); None where γ is known."""
    if not isinstance(prior.concentration, GammaPrior):
        return None
    if before is None:
        return prior.concentration
    shape, rate = prior.concentration
    _, log_rest = _log_sticks(before)
    return GammaPrior(shape + len(log_rest), rate - float(log_rest.sum()))


def mean_concentration(prior: Prior, learnt: GammaPrior | None) -> float:
    """E[γ]."""
    if learnt is not None:
        return learnt.shape / learnt.rate
    assert not isinstance(prior.concentration, GammaPrior)
    return prior.concentration


def _log_concentration(prior: Prior, learnt: GammaPrior | None) -> float:
    """E[log γ]."""
    if learnt is None:
        return math.log(mean_concentration(prior, None))
    return float(digamma(learnt.shape) - math.log(learnt.rate))


def dirichlet_evidence(prior: Prior, q: Posterior) -> float:
    """What π adds to the collapsed bound."""
    return _log_beta(q.dirichlet) - _log_beta(prior.dirichlet)


def _log_beta(alpha: Array) -> float:
    return float(gammaln(alpha).sum() - gammaln(alpha.sum()))


def stick_evidence(prior: Prior, q: Posterior) -> float:
    """What the sticks (and γ) add to the collapsed bound."""
    found = float(betaln(q.sticks[:, 0], q.sticks[:, 1]).sum())
    found += len(q.sticks) * _log_concentration(prior, q.concentration)
    return found - _kl_concentration(prior, q)


def kl_dirichlet(q: Posterior, prior: Prior) -> float:
    """KL(q(π)‖p(π)), nats."""
    eta, alpha = q.dirichlet, prior.dirichlet
    slope = float(((eta - alpha) * (digamma(eta) - digamma(eta.sum()))).sum())
    return _log_beta(alpha) - _log_beta(eta) + slope


def kl_sticks(q: Posterior, prior: Prior) -> float:
    """KL(q(V) q(γ)‖p(V | γ) p(γ)), nats."""
    a, b = q.sticks[:, 0], q.sticks[:, 1]
    log_v, log_rest = _log_sticks(q)
    gamma = mean_concentration(prior, q.concentration)
    found = -len(a) * _log_concentration(prior, q.concentration)
    # With γ known this is KL(Beta(a, b)‖Beta(1, γ)).
    found += float(((a - 1) * log_v + (b - gamma) * log_rest - betaln(a, b)).sum())
    return found + _kl_concentration(prior, q)


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
