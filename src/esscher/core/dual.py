"""Damped Newton on the convex dual of moment constraints."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["newton"]

MAX_CHANGE = 10.0  # nats by which a step may move one log-weight against another


def newton(
    phi: Tensor, mu: Tensor, log_w: Tensor, tol: float = 1e-10, max_iter: int = 100
) -> tuple[Tensor, int, int] | None:
    """Minimise log sum exp(log_w + lambda . phi) - lambda . mu over lambda.

    Args:
        phi: [N, K] features.
        mu: [K] wanted means; K = 0 is allowed.
        log_w: [N] finite-or--inf log-weights, nats.
        tol: largest gradient component, in units of each feature's spread.
        max_iter: steps before giving up.

    Returns:
        (lambda [K], iterations, rank of the covariance), or None where no finite minimum is found.
    """
    scale = (phi - mu).abs().amax(0).clamp(min=1e-300) if len(mu) else mu
    centred = (phi - mu) / scale
    x = torch.zeros_like(mu)
    value, gradient, covariance = _dual(centred, log_w, x)
    rank = len(mu)
    for iteration in range(max_iter + 1):
        if len(mu) == 0 or float(gradient.abs().max()) < tol:
            return x / scale, iteration, rank
        rank, step = _direction(covariance, gradient)
        change = centred @ step
        step = step * min(1.0, MAX_CHANGE / float(change.max() - change.min() + 1e-300))
        slope = float(gradient @ step)
        size, accepted = 1.0, False
        while size > 1e-12 and not accepted:
            trial = _dual(centred, log_w, x + size * step)
            # At the optimum the value no longer resolves progress, but the gradient does.
            level = float(trial[0]) <= float(value) + 1e-13 * (1 + abs(float(value)))
            smaller = float(trial[1].norm()) < 0.5 * float(gradient.norm())
            accepted = float(trial[0]) <= float(value) + 1e-4 * size * slope or (level and smaller)
            size /= 2
        if not accepted:
            return None
        x = x + 2 * size * step
        value, gradient, covariance = trial
    return None


def _dual(centred: Tensor, log_w: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    log_tilted = log_w + centred @ x
    w = torch.softmax(log_tilted, 0)
    gradient = w @ centred
    spread = centred - gradient
    return torch.logsumexp(log_tilted, 0), gradient, (spread * w[:, None]).T @ spread


def _direction(covariance: Tensor, gradient: Tensor) -> tuple[int, Tensor]:
    values, vectors = torch.linalg.eigh(covariance)
    keep = values > 1e-10 * values[-1]
    inverse = torch.where(keep, 1 / values.where(keep, torch.ones(())), 0.0)
    return int(keep.sum()), -vectors @ (inverse * (vectors.T @ gradient))
