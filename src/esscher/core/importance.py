"""Importance weights: log Z, effective sample size, the tail index, and bounds on log Z."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from esscher.core.estimate import Estimate, from_samples
from esscher.errors import ConfigError, NumericsError, ShapeError, TargetUnreachableError

__all__ = ["effective_sample_size", "log_z", "log_z_bounds", "normalised_weights", "pareto_k"]


def normalised_weights(log_w: Tensor) -> Tensor:
    """Weights scaled to mean 1, [N] float64, from log-weights [N] in [-inf, inf).

    Raises:
        ShapeError: if log_w is not a non-empty vector.
        NumericsError: naming the first weight that is NaN or +inf.
        TargetUnreachableError: if every weight is zero.
    """
    if log_w.ndim != 1 or len(log_w) == 0:
        raise ShapeError(f"expected log-weights [N] with N >= 1, got {tuple(log_w.shape)}")
    w = log_w.detach().to(torch.float64)
    bad = w.isnan() | (w == torch.inf)
    if bool(bad.any()):
        i = int(bad.nonzero()[0])
        raise NumericsError(f"log-weight {i} is {float(w[i])}, expected a number below inf")
    if bool((w == -torch.inf).all()):
        n = len(w)
        raise TargetUnreachableError(
            f"all {n} draws have weight zero: the target's mass under the proposal is below "
            f"{3 / n:.2g} (95 %); draw more, soften the evidence, or use a closer proposal"
        )
    return torch.softmax(w, 0) * len(w)


def log_z(log_w: Tensor) -> Estimate:
    """Log Z from log-weights log P - log q of N draws from q, nats.

    The standard error is that of the delta method, sqrt((1/ESS - 1/N) N / (N - 1)); the mean is
    biased down by about se^2 / 2.

    Raises:
        TargetUnreachableError: if every weight is zero.
    """
    w = normalised_weights(log_w)
    n = len(w)
    value = float(torch.logsumexp(log_w.detach().to(torch.float64), 0)) - math.log(n)
    se = float(w.std()) / math.sqrt(n) if n > 1 else math.inf
    return Estimate(value, se, n, ess=effective_sample_size(log_w), unit="nats")


def effective_sample_size(log_w: Tensor) -> float:
    """(sum w)^2 / sum w^2, in [1, N]."""
    w = normalised_weights(log_w)
    return len(w) ** 2 / float((w**2).sum())


def log_z_bounds(log_w_q: Tensor, log_w_target: Tensor, k: int) -> tuple[Estimate, Estimate]:
    """Stochastic lower and upper bounds on log Z from groups of k weights.

    The lower one averages log mean_k w over draws from q; the upper one replaces a draw of each
    group by an exact sample from the target. Both close as k grows.

    Args:
        log_w_q: [N] log P - log q of draws from q.
        log_w_target: [M] the same of exact draws from the target.
        k: group size, at least 1.

    Returns:
        (lower, upper), nats; their n counts groups.

    Raises:
        ConfigError: if there are too few weights for a single group.

    Reference:
        Burda, Grosse, Salakhutdinov (2016), equation 8; Grosse, Ancha, Roy (2016) for the upper.
    """
    m = len(log_w_target) if k == 1 else min(len(log_w_target), len(log_w_q) // max(k - 1, 1))
    groups = len(log_w_q) // max(k, 1)
    if k < 1 or groups < 1 or m < 1:
        raise ConfigError(
            f"bounds with k={k} need k >= 1, at least k draws from q and one from the target, "
            f"got {len(log_w_q)} and {len(log_w_target)}"
        )
    normalised_weights(log_w_q), normalised_weights(log_w_target)
    q, p = log_w_q.detach().to(torch.float64), log_w_target.detach().to(torch.float64)
    lower = torch.logsumexp(q[: groups * k].view(groups, k), 1) - math.log(k)
    mixed = torch.cat([p[:m, None], q[: m * (k - 1)].view(m, k - 1)], 1)
    upper = torch.logsumexp(mixed, 1) - math.log(k)
    return from_samples(lower, unit="nats"), from_samples(upper, unit="nats")


def pareto_k(log_w: Tensor) -> float:
    """Tail index k-hat of the weights: below 0.5 good, above 0.7 do not trust the estimate.

    A generalised Pareto law is fitted to the largest min(N/5, 3 sqrt N) weights. A tail of equal
    weights is bounded: -inf. A tail of fewer than five distinct positions says nothing: inf.

    Reference:
        Zhang, Stephens (2009); Vehtari, Simpson, Gelman, Yao, Gabry (2024), PSIS.
    """
    w = normalised_weights(log_w).sort().values
    n = len(w)
    size = min(n // 5, math.ceil(3 * math.sqrt(n)))
    if size < 5:
        return math.inf
    excess = w[-size:] - w[-size - 1]
    excess = excess[excess > 1e-12 * w[-1]]
    if len(excess) == 0:
        return -math.inf
    return _zhang_stephens(excess) if len(excess) >= 5 else math.inf


def _zhang_stephens(excess: Tensor) -> float:
    """Posterior-mean shape of a generalised Pareto law, with PSIS's pull towards 0.5."""
    m = len(excess)
    grid = 30 + int(math.sqrt(m))
    quartile = excess[max(int(m / 4 + 0.5) - 1, 0)]
    steps = torch.arange(1, grid + 1, dtype=torch.float64)
    b = 1 / excess[-1] + (1 - (grid / (steps - 0.5)).sqrt()) / (3 * quartile)
    shape = torch.log1p(-b[:, None] * excess).mean(1)
    score = m * ((-b / shape).log() - shape - 1)
    best = (torch.softmax(score, 0) * b).sum()
    k = float(torch.log1p(-best * excess).mean())
    return (m * k + 5.0) / (m + 10.0)
