"""Exact f-divergences on a finite support: the ground truth for estimates and gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from esscher.core.divergence import Divergence
from esscher.errors import NumericsError, ShapeError

__all__ = ["exact"]


def exact(divergence: Divergence, log_pi: Tensor, log_p: Tensor) -> Tensor:
    """D_f(pi || p) on a finite support, differentiable in both, [] in [0, inf].

    Args:
        divergence: which.
        log_pi: [N] normalised log-probabilities of the model; -inf allowed.
        log_p: [N] normalised log-probabilities of the target; -inf allowed.

    Raises:
        ShapeError: if the two are not vectors of one length.
        NumericsError: if one is not normalised (NaN included).

    chi2 overflows to inf where a log-ratio exceeds about 350 nats; all others stay finite.
    """
    if log_pi.ndim != 1 or log_pi.shape != log_p.shape:
        raise ShapeError(f"expected two [N], got {tuple(log_pi.shape)} and {tuple(log_p.shape)}")
    for label, law in (("log_pi", log_pi), ("log_p", log_p)):
        total = float(torch.logsumexp(law.detach(), 0))
        if not abs(total) < 1e-4:
            raise NumericsError(f"{label} must be normalised, its log-sum-exp is {total}, not 0")
    no_pi, no_p = log_pi == -torch.inf, log_p == -torch.inf
    both = ~(no_pi | no_p)
    pi, p = log_pi[both], log_p[both]
    u = pi - p
    low = _product(p, divergence.f(u.clamp(max=0)))
    high = _product(pi, divergence.mirror((-u).clamp(max=0)))
    inside = torch.where(u <= 0, low, high).sum()
    missed = _priced(log_p[no_pi & ~no_p], divergence.at_zero)
    return inside + missed + _priced(log_pi[no_p & ~no_pi], divergence.slope_at_zero_target)


def _product(log_mass: Tensor, value: Tensor) -> Tensor:
    # exp(log_mass) may underflow to 0 where value overflows: the product is then inf, not NaN.
    return torch.where(value == torch.inf, value, log_mass.exp() * value)


def _priced(log_mass: Tensor, price: float) -> Tensor:
    if len(log_mass) == 0 or price == 0.0:
        return log_mass.new_zeros(())
    return log_mass.exp().sum() * price if math.isfinite(price) else log_mass.new_tensor(price)
