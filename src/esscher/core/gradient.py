"""Score-form gradients of f-divergences: one advantage per sample, on- or off-policy."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from esscher.core.divergence import Divergence
from esscher.errors import ConfigError, NumericsError, ShapeError

__all__ = ["Baseline", "advantages"]

Baseline = Literal["loo", "analytic", "none"]


def advantages(
    divergence: Divergence,
    *,
    log_pi: Tensor,
    log_target: Tensor,
    log_q: Tensor | None = None,
    log_z: Tensor | float | None = None,
    baseline: Baseline = "loo",
    groups: Tensor | None = None,
) -> Tensor:
    """Advantages A [B] such that `-(A * log_pi).mean()` has the gradient of D_f(pi || p*).

    Descending that loss lowers the divergence; the expectation over samples from q is exact:
    A = (pi/q) (R - b), R = -f'(pi/p*), with b independent of the sample itself.

    Args:
        divergence: D_f, with the model as its first argument.
        log_pi: [B] model log-probabilities of the samples, nats; not differentiated here.
        log_target: [B] unnormalised log-density of the target; -inf allowed.
        log_q: [B] under the law that drew the samples; None means the model drew them.
        log_z: log normaliser of the target, [] or [B] (by context), nats; reverse_kl needs none.
        baseline: "loo" is the weighted mean of R over the other samples of the group;
            "analytic" is the known E[R] (forward_kl only: A = P/(Zq) - pi/q, GDC++); or "none".
        groups: [B] integers, samples that share a context; None means all do.

    Returns:
        [B] float64 without gradient, finite.

    Raises:
        ShapeError: if the vectors differ in length.
        ConfigError: if log_z is needed and missing, the baseline does not exist for the
            divergence, or a group has one sample and nothing to leave out.
        NumericsError: if a log-probability is NaN or +inf, or the pseudo-reward is infinite.

    Reference:
        Go et al. (2023), theorem 1; Korbak et al. (2022, GDC++), section 3.3; Kool, van Hoof,
        Welling (2019) for the leave-one-out mean.
    """
    pi = _vector("log_pi", log_pi, len(log_pi))
    q = pi if log_q is None else _vector("log_q", log_q, len(pi))
    p = _vector("log_target", log_target, len(pi)) - _normaliser(divergence, log_z, pi)
    _check_reachable(divergence, pi, q, p)
    if baseline == "analytic":
        return _analytic(divergence, pi, q, p)
    reward = _weighted_reward(divergence, pi, q, p)
    if baseline == "none":
        return _finite(reward)
    if baseline != "loo":
        raise ConfigError(f"baseline must be 'loo', 'analytic' or 'none', got {baseline!r}")
    weight = (pi - q).exp()
    out = torch.empty_like(reward)
    for rows in _groups(groups, len(pi), pi.device):
        out[rows] = reward[rows] - weight[rows] * _mean_of_others(reward[rows], weight[rows])
    return _finite(out)


def _vector(name: str, values: Tensor, n: int) -> Tensor:
    values = values.detach().to(torch.float64)
    if tuple(values.shape) != (n,):
        raise ShapeError(f"expected {name} of shape ({n},), got {tuple(values.shape)}")
    bad = values.isnan() | (values == torch.inf)
    if bool(bad.any()):
        i = int(bad.nonzero()[0])
        raise NumericsError(
            f"{name}: sample {i} is {float(values[i])}, expected a number below inf"
        )
    return values


def _normaliser(divergence: Divergence, log_z: Tensor | float | None, like: Tensor) -> Tensor:
    if log_z is None:
        if divergence.name != "reverse_kl":
            raise ConfigError(
                f"{divergence.name} needs log_z, the log normaliser of the target; estimate it by "
                "log_z(log_target - log_q), or use reverse_kl, which does not depend on it"
            )
        return torch.zeros_like(like)
    value = torch.as_tensor(log_z, dtype=torch.float64, device=like.device).detach()
    if value.ndim and value.shape != like.shape:
        raise ShapeError(f"expected log_z [] or {tuple(like.shape)}, got {tuple(value.shape)}")
    if not bool(value.isfinite().all()):
        raise NumericsError(f"log_z must be finite, got {value.flatten()[:4].tolist()}")
    return value


def _check_reachable(divergence: Divergence, pi: Tensor, q: Tensor, p: Tensor) -> None:
    for name, values in (("log_pi", pi), ("log_q", q)):
        if bool((values == -torch.inf).any()):
            i = int((values == -torch.inf).nonzero()[0])
            raise NumericsError(
                f"{name} is -inf for sample {i}: it cannot have been drawn, or has no gradient; "
                "score samples under the law that drew them"
            )
    if divergence.needs_floor and bool((p == -torch.inf).any()):
        i = int((p == -torch.inf).nonzero()[0])
        raise NumericsError(
            f"{divergence.name} is infinite: the target gives sample {i} of {len(p)} no mass; "
            "use target.with_floor(20.0), or forward_kl, js or tv, which allow it"
        )


def _weighted_reward(divergence: Divergence, pi: Tensor, q: Tensor, p: Tensor) -> Tensor:
    """(pi/q) R, in the form that does not overflow on either side of t = 1."""
    u = pi - p
    below = (p - q).exp() * divergence.scaled_slope(u)
    return -torch.where(u < 0, below, (pi - q).exp() * divergence.slope(u))


def _analytic(divergence: Divergence, pi: Tensor, q: Tensor, p: Tensor) -> Tensor:
    if divergence.name != "forward_kl":
        raise ConfigError(
            f"baseline='analytic' exists for forward_kl only, got {divergence.name}; use 'loo'"
        )
    return _finite((p - q).exp() - (pi - q).exp())


def _groups(groups: Tensor | None, n: int, device: torch.device) -> list[Tensor]:
    label = torch.zeros(n, dtype=torch.int64) if groups is None else groups.cpu()
    if tuple(label.shape) != (n,):
        raise ShapeError(f"expected groups of shape ({n},), got {tuple(label.shape)}")
    values, counts = torch.unique(label, return_counts=True)
    if bool((counts < 2).any()):
        lonely = int(values[int((counts < 2).nonzero()[0])])
        raise ConfigError(
            f"baseline='loo' needs two samples per group, group {lonely} has one; "
            "draw more per context or use baseline='none'"
        )
    return [(label == value).nonzero()[:, 0].to(device) for value in values]


def _mean_of_others(reward: Tensor, weight: Tensor) -> Tensor:
    """Self-normalised mean of R without sample i: shifts of R cancel, and no bias enters."""
    total, mass = _sum_of_others(reward), _sum_of_others(weight)
    return torch.where(mass > 0, total / mass, 0.0)


def _sum_of_others(values: Tensor) -> Tensor:
    # Prefix plus suffix: total minus own would cancel where one sample dominates.
    padded = torch.cat([values.new_zeros(1), values, values.new_zeros(1)])
    return padded.cumsum(0)[:-2] + padded.flip(0).cumsum(0).flip(0)[2:]


def _finite(values: Tensor) -> Tensor:
    bad = ~values.isfinite()
    if bool(bad.any()):
        i = int(bad.nonzero()[0])
        raise NumericsError(
            f"the advantage of sample {i} of {len(values)} is {float(values[i])}: the log-ratio of "
            "model, target and proposal is beyond float64; move the proposal closer to the model"
        )
    return values
