"""Distance to the target, estimated from draws: KL both ways, TVD, JS, any f-divergence.

All standard errors come from influence functions, so that an estimate of Z made from the same
draws is accounted for. An estimate from q cannot see mass that q does not reach.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from esscher.core.divergence import DIVERGENCES, LOG2, Divergence
from esscher.core.estimate import Estimate, from_samples
from esscher.core.importance import effective_sample_size, normalised_weights
from esscher.errors import NumericsError, ShapeError

__all__ = [
    "divergence_snis",
    "js",
    "kl_model_target",
    "kl_target_model",
    "kl_target_model_snis",
    "tvd",
]


def kl_model_target(
    log_pi: Tensor, log_target: Tensor, log_z: Estimate | float | None = None
) -> Estimate:
    """KL(pi || p*) from N draws of the model, nats; inf if the target excludes one of them.

    Args:
        log_pi: [N] model log-probabilities of the model's own draws.
        log_target: [N] unnormalised target log-density.
        log_z: exact, or from other draws, or None to estimate it from these.

    Raises:
        ShapeError, NumericsError: on unequal lengths, or NaN or +inf.
    """
    log_pi, log_target = _pair(log_pi, log_target)
    if bool((log_target == -torch.inf).any()):
        return Estimate(math.inf, math.inf, len(log_pi), unit="nats")
    if log_z is None:
        return divergence_snis(DIVERGENCES["reverse_kl"], log_pi, log_pi, log_target)
    return _shifted(log_pi - log_target, log_z, sign=1.0)


def kl_target_model(log_target: Tensor, log_pi: Tensor, log_z: Estimate | float) -> Estimate:
    """KL(p* || pi) from N exact draws of the target, nats; inf if the model excludes one.

    This is the only estimate that sees all the mass a collapsed model has lost.

    Args:
        log_target: [N] unnormalised target log-density of the target's own draws.
        log_pi: [N] model log-probabilities.
        log_z: exact, or estimated from other draws.

    Raises:
        ShapeError, NumericsError: on unequal lengths, or NaN or +inf.
    """
    log_target, log_pi = _pair(log_target, log_pi)
    return _shifted(log_target - log_pi, log_z, sign=-1.0)


def kl_target_model_snis(log_pi: Tensor, log_q: Tensor, log_target: Tensor) -> Estimate:
    """KL(p* || pi) from N draws of any q, with Z estimated from the same draws, nats."""
    return divergence_snis(DIVERGENCES["forward_kl"], log_pi, log_q, log_target)


def tvd(
    log_pi: Tensor, log_q: Tensor, log_target: Tensor, log_z: Estimate | float | None = None
) -> Estimate:
    """Total variation distance in [0, 1] from N draws of any q: E_q|pi/q - P/(Zq)| / 2."""
    return divergence_snis(DIVERGENCES["tv"], log_pi, log_q, log_target, log_z)


def divergence_snis(
    divergence: Divergence,
    log_pi: Tensor,
    log_q: Tensor,
    log_target: Tensor,
    log_z: Estimate | float | None = None,
) -> Estimate:
    """D_f(pi || p*) = E_q[(p*/q) f(pi/p*)] from N draws of q.

    Args:
        divergence: D_f.
        log_pi: [N] model log-probabilities, -inf allowed.
        log_q: [N] log-probabilities under the law that drew the samples.
        log_target: [N] unnormalised target log-density, -inf allowed.
        log_z: exact, or from other draws, or None to estimate it from these (bias O(1/N)).

    Returns:
        The estimate, with the effective sample size of P/q; inf where a draw shows that the
        divergence is.

    Raises:
        ShapeError, NumericsError: on unequal lengths, or NaN or +inf.
        TargetUnreachableError: if Z is to be estimated and every weight is zero.
    """
    log_pi, log_q = _pair(log_pi, log_q)
    log_target, log_q = _pair(log_target, log_q)
    log_w = log_target - log_q
    w = normalised_weights(log_w)
    shift = _mean_of(log_z, float(torch.logsumexp(log_w, 0)) - math.log(len(w)))
    log_p = log_target - shift
    parts = _integrand(divergence, log_pi, log_p, log_q)
    value = from_samples(parts, unit="" if divergence.name == "tv" else "nats")
    if math.isinf(value.mean):
        return value
    # d D / d log Z = -E_q[(p/q)(f - t f')]
    pull = -(parts - _scaled_slope(divergence, log_pi, log_p, log_q)).mean()
    ess = effective_sample_size(log_w)
    if log_z is None:
        spread = from_samples(parts + pull * (w - 1)).se
    else:
        spread = math.hypot(value.se, float(pull) * _se_of(log_z))
    return Estimate(value.mean, spread, value.n, ess=ess, unit=value.unit)


def js(
    model_draws: tuple[Tensor, Tensor],
    target_draws: tuple[Tensor, Tensor],
    log_z: Estimate | float,
) -> Estimate:
    """Jensen-Shannon divergence in [0, log 2] from draws of both laws, nats.

    Args:
        model_draws: (log_pi [N], log_target [N]) of draws from the model.
        target_draws: (log_pi [M], log_target [M]) of exact draws from the target.
        log_z: exact, or estimated from other draws; errors in it enter only to second order.

    Raises:
        ShapeError, NumericsError: on unequal lengths, or NaN or +inf.
    """
    shift = _mean_of(log_z, 0.0)
    model_pi, model_p = _pair(*model_draws)
    target_pi, target_p = _pair(*target_draws)
    u = model_pi - model_p + shift
    v = target_pi - target_p + shift
    model = from_samples(0.5 * (LOG2 - softplus(-u)))
    target = from_samples(0.5 * (LOG2 - softplus(v)))
    pull = 0.5 * float(torch.sigmoid(-u).mean() - torch.sigmoid(v).mean())
    se = math.hypot(model.se, target.se, pull * _se_of(log_z))
    return Estimate(model.mean + target.mean, se, model.n + target.n, unit="nats")


def _integrand(d: Divergence, log_pi: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    """(p/q) f(pi/p) for every draw, finite wherever the true value is representable."""
    both, u = _log_ratio(log_pi, log_p)
    low = (log_p - log_q).exp() * d.f(u.clamp(max=0))
    high = (log_pi - log_q).exp() * d.mirror((-u).clamp(max=0))
    inside = torch.where(u <= 0, low, high)
    edge = _edge(log_p, log_q, d.at_zero) + _edge(log_pi, log_q, d.slope_at_zero_target)
    return torch.where(both, inside, edge)


def _scaled_slope(d: Divergence, log_pi: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    """(p/q) t f'(t) for every draw."""
    both, u = _log_ratio(log_pi, log_p)
    low = (log_p - log_q).exp() * d.scaled_slope(u.clamp(max=0))
    high = (log_pi - log_q).exp() * d.slope(u.clamp(min=0))
    edge = _edge(log_pi, log_q, d.slope_at_zero_target)
    return torch.where(both, torch.where(u < 0, low, high), edge)


def _log_ratio(log_pi: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    both = (log_pi > -torch.inf) & (log_p > -torch.inf)
    return both, torch.where(both, log_pi - log_p, 0.0)


def _edge(log_mass: Tensor, log_q: Tensor, price: float) -> Tensor:
    mass = (log_mass - log_q).exp()
    return torch.where(mass > 0, mass * price, 0.0)


def _shifted(values: Tensor, log_z: Estimate | float, sign: float) -> Estimate:
    base = from_samples(values, unit="nats")
    mean = base.mean + sign * _mean_of(log_z, 0.0)
    return Estimate(mean, math.hypot(base.se, _se_of(log_z)), base.n, unit="nats")


def _mean_of(log_z: Estimate | float | None, default: float) -> float:
    value = default if log_z is None else log_z
    mean = value.mean if isinstance(value, Estimate) else float(value)
    if not math.isfinite(mean):
        raise NumericsError(f"log_z must be finite, got {mean}")
    return mean


def _se_of(log_z: Estimate | float) -> float:
    return log_z.se if isinstance(log_z, Estimate) else 0.0


def _pair(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities under the law that drew the samples (or any other), and another's."""
    a, b = own.detach().to(torch.float64), other.detach().to(torch.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise ShapeError(f"expected two equal vectors, got {tuple(a.shape)} and {tuple(b.shape)}")
    for values in (a, b):
        bad = values.isnan() | (values == torch.inf)
        if bool(bad.any()):
            i = int(bad.nonzero()[0])
            raise NumericsError(f"log-probability {i} is {float(values[i])}, expected < inf")
    return a, b
