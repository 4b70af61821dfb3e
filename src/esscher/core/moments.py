"""Natural parameters for moment constraints: damped Newton on the convex dual."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esscher.core.estimate import Estimate
from esscher.core.evidence import Evidence, Moments
from esscher.core.feasible import check_feasible, hard_conditions, infeasible
from esscher.errors import ConfigError, InfeasibleMomentsError, NumericsError, ShapeError

__all__ = ["MomentFit", "fit_moments", "hand_back"]


@dataclass(frozen=True)
class MomentFit:
    """The tilt exp(lambda . phi) that gives weighted draws the wanted means.

    Attributes:
        names: K features.
        coefficients: lambda [K], nats per unit of the feature; 0 for hard features.
        achieved: [K] weighted means at lambda.
        log_z: log normaliser of the tilted law; its error includes that of lambda.
        ess: effective sample size at lambda, in [1, N].
        iterations: Newton steps taken.
        hard: features that must equal a value, as their mean is at the end of a 0/1 range.
        ci: [K, 2] bootstrap 95 % interval of lambda, or None.
        warnings: what a reader of the numbers should know.
    """

    names: tuple[str, ...]
    coefficients: Tensor
    achieved: Tensor
    log_z: Estimate
    ess: float
    iterations: int
    hard: Mapping[str, float]
    ci: Tensor | None
    warnings: tuple[str, ...]


def fit_moments(
    features: Tensor,
    means: Tensor | Sequence[float],
    log_w0: Tensor | None = None,
    *,
    names: Sequence[str] | None = None,
    tol: float = 1e-10,
    max_iter: int = 100,
    bootstrap: int = 0,
    rng: torch.Generator | None = None,
) -> MomentFit:
    """Find lambda such that E_w[phi] = mu for weights w = exp(log_w0 + lambda . phi).

    Minimises log Z(lambda) - lambda . mu, whose gradient is E_w[phi] - mu and whose Hessian is the
    weighted covariance of phi. A mean of exactly 0 or 1 of a 0/1 feature has no finite lambda: it
    becomes a hard condition and the rest is fitted on the draws that meet it.

    Args:
        features: [N, K] phi of the draws.
        means: [K] wanted means mu.
        log_w0: [N] log-weights of the draws before tilting, nats; 0 by default.
        names: of the features, for messages; phi0, phi1, ... by default.
        tol: largest |E_w[phi] - mu| allowed, in units of each feature's spread (at most 1).
        max_iter: Newton steps before the moments count as unreachable.
        bootstrap: resamples for the interval of lambda; 0 for none.
        rng: source of the resampling; needed if bootstrap > 0.

    Warns:
        UserWarning: where features are collinear (the shortest lambda is taken) or the effective
            sample size falls below 1 % of the draws.

    Raises:
        ShapeError, NumericsError: on shapes that do not match, NaN, or infinite features.
        InfeasibleMomentsError: if no weights on the draws have these means, with the observed
            range of every feature.
        ConfigError: if bootstrap is asked for without rng.

    Reference:
        Csiszar (1975), I-projection; Khalifa, Elsahar, Dymetman (2021), section 3.2.
    """
    phi, mu, log_w = _inputs(features, means, log_w0)
    labels = tuple(names) if names is not None else tuple(f"phi{k}" for k in range(phi.shape[1]))
    if len(labels) != phi.shape[1]:
        raise ShapeError(f"expected {phi.shape[1]} names, got {len(labels)}")
    hard = hard_conditions(phi, mu, log_w, labels)
    alive = log_w > -torch.inf
    for k, value in hard.items():
        alive = alive & (phi[:, k] == value)
    soft = [k for k in range(len(labels)) if k not in hard]
    check_feasible(phi[alive], mu, soft, hard, labels)
    solution = _newton(phi[alive][:, soft], mu[soft], log_w[alive], tol, max_iter)
    if solution is None:
        raise infeasible("the means are on the edge of what is reachable", phi, mu, labels)
    ci = None
    if bootstrap > 0:
        ci = _interval(phi[alive], mu, log_w[alive], soft, _resamples(alive, bootstrap, rng))
    coefficients = torch.zeros(len(labels), dtype=torch.float64)
    coefficients[soft], iterations, rank = solution
    weights = torch.zeros(len(phi), dtype=torch.float64)
    weights[alive] = torch.softmax(log_w[alive] + phi[alive] @ coefficients, 0)
    log_z = _log_z(phi, log_w.masked_fill(~alive, -torch.inf), coefficients, weights)
    notes = _notes([labels[k] for k in soft], rank, log_z)
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    return MomentFit(
        names=labels,
        coefficients=coefficients,
        achieved=weights @ phi,
        log_z=log_z,
        ess=float(log_z.ess or 0.0),
        iterations=iterations,
        hard={labels[k]: value for k, value in hard.items()},
        ci=ci,
        warnings=notes,
    )


def hand_back(evidence: Sequence[Evidence], fit: MomentFit) -> list[Evidence]:
    """The evidence with the joint coefficients given back to each `Moments`, in order."""
    out: list[Evidence] = []
    start = 0
    for piece in evidence:
        if not isinstance(piece, Moments):
            out.append(piece)
            continue
        stop = start + len(piece.names)
        joint = zip(piece.names, fit.names[start:stop], strict=True)
        hard = {own: fit.hard[name] for own, name in joint if name in fit.hard}
        out.append(piece.fitted(fit.coefficients[start:stop], hard))
        start = stop
    return out


def _inputs(
    features: Tensor, means: Tensor | Sequence[float], log_w0: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    phi = features.detach().to(torch.float64)
    mu = torch.as_tensor(means, dtype=torch.float64)
    if phi.ndim != 2 or 0 in phi.shape or mu.shape != phi.shape[1:]:
        raise ShapeError(
            f"expected features [N, K] and means [K], got {tuple(phi.shape)} and {tuple(mu.shape)}"
        )
    log_w = torch.zeros(len(phi), dtype=torch.float64) if log_w0 is None else log_w0.detach()
    log_w = log_w.to(torch.float64)
    if log_w.shape != phi.shape[:1]:
        raise ShapeError(f"expected log_w0 ({len(phi)},), got {tuple(log_w.shape)}")
    for name, bad in (
        ("features", ~phi.isfinite().all(1)),
        ("log_w0", log_w.isnan() | (log_w == torch.inf)),
    ):
        if bool(bad.any()):
            raise NumericsError(f"{name}: draw {int(bad.nonzero()[0])} is NaN or infinite")
    if not bool(mu.isfinite().all()):
        raise NumericsError(f"means must be finite, got {mu.tolist()}")
    if bool((log_w == -torch.inf).all()):
        raise InfeasibleMomentsError(
            f"all {len(phi)} draws have weight zero before tilting; "
            "use a proposal that reaches the other evidence, or more draws"
        )
    return phi, mu, log_w


def _newton(
    phi: Tensor, mu: Tensor, log_w: Tensor, tol: float = 1e-10, max_iter: int = 100
) -> tuple[Tensor, int, int] | None:
    """(lambda, iterations, rank), or None where the dual has no finite minimum."""
    scale = (phi - mu).abs().amax(0).clamp(min=1e-300) if len(mu) else mu
    centred = (phi - mu) / scale
    x = torch.zeros_like(mu)
    value, gradient, covariance = _dual(centred, log_w, x)
    rank = len(mu)
    for iteration in range(max_iter + 1):
        if len(mu) == 0 or float(gradient.abs().max()) < tol:
            return x / scale, iteration, rank
        rank, step = _direction(covariance, gradient)
        slope = float(gradient @ step)
        size, accepted = 1.0, False
        while size > 1e-12 and not accepted:
            trial = _dual(centred, log_w, x + size * step)
            # Close to the optimum the value cannot resolve progress, the gradient can.
            smaller = float(trial[1].norm()) < 0.5 * float(gradient.norm())
            accepted = float(trial[0]) <= float(value) + 1e-4 * size * slope or smaller
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


def _notes(names: Sequence[str], rank: int, log_z: Estimate) -> tuple[str, ...]:
    notes = []
    if rank < len(names):
        notes.append(
            f"the features {', '.join(names)} are collinear (rank {rank} of {len(names)}): "
            "their coefficients are not unique, the shortest ones are used"
        )
    if log_z.ess is not None and log_z.ess < 0.01 * log_z.n:
        notes.append(
            f"the fitted weights have an effective sample size of {log_z.ess:.1f} of {log_z.n}: "
            "refit with a proposal closer to the target"
        )
    return tuple(notes)


def _log_z(phi: Tensor, log_w: Tensor, x: Tensor, weights: Tensor) -> Estimate:
    n = len(phi)
    value = float(torch.logsumexp(log_w + phi @ x, 0)) - math.log(n)
    mean = weights @ phi
    spread = phi - mean
    inverse = torch.linalg.pinv((spread * weights[:, None]).T @ spread, hermitian=True)
    # Influence of one draw on log Z at fixed lambda, and through lambda.
    influence = n * weights * (1 - spread @ inverse @ mean) - 1
    se = float(influence.std()) / math.sqrt(n) if n > 1 else math.inf
    return Estimate(value, se, n, ess=1 / float((weights**2).sum()), unit="nats")


def _resamples(alive: Tensor, n_boot: int, rng: torch.Generator | None) -> list[Tensor]:
    """Rows among the alive draws, for resamples of all draws."""
    if rng is None:
        raise ConfigError("bootstrap > 0 needs rng, a torch.Generator")
    position = alive.cumsum(0) - 1
    out = []
    for _ in range(n_boot):
        rows = torch.randint(len(alive), (len(alive),), generator=rng)
        out.append(position[rows[alive[rows]]])
    return out


def _interval(
    phi: Tensor, mu: Tensor, log_w: Tensor, soft: Sequence[int], resamples: Sequence[Tensor]
) -> Tensor:
    draws = torch.zeros(len(resamples), len(mu), dtype=torch.float64)
    for b, rows in enumerate(resamples):
        solution = None
        if len(rows):
            solution = _newton(phi[rows][:, soft], mu[soft], log_w[rows])
        if solution is None:
            raise infeasible("a bootstrap resample of the draws is too poor", phi, mu, ())
        draws[b, soft] = solution[0]
    return torch.quantile(draws, torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0).T
