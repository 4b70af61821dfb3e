"""Normal-inverse-Wishart laws, several at a time: densities, divergence, predictive.

NIW(m, κ, ν, Ψ): Σ ~ IW(ν, Ψ) with mean Ψ / (ν - p - 1), and μ given Σ ~ N(m, Σ / κ).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln, multigammaln

from esscher.errors import ConfigError, NumericsError, ShapeError

__all__ = [
    "NIW",
    "Array",
    "cholesky",
    "expected_log_density",
    "kl_niw",
    "log_evidence",
    "squared_distances",
    "student_log_density",
]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
BLOCK_BYTES = 2**26
"""About how much memory the whitened copies of one block of rows take."""


@dataclass(frozen=True)
class NIW:
    """K Normal-inverse-Wishart laws in p dimensions.

    Attributes:
        mean: [K, p], m.
        kappa: [K] > 0, pseudo-observations behind the mean.
        dof: [K] > p - 1, ν.
        scale: [K, p, p] symmetric positive definite, Ψ.
    """

    mean: Array
    kappa: Array
    dof: Array
    scale: Array

    def __post_init__(self) -> None:
        shape = self.mean.shape
        if len(shape) != 2:
            raise ShapeError(f"means of K laws are [K, p], got {shape}")
        k, p = shape
        found = (self.kappa.shape, self.dof.shape, self.scale.shape)
        if found != ((k,), (k,), (k, p, p)):
            raise ShapeError(f"kappa, dof and scale do not fit means {shape}: {found}")
        if not (bool((self.kappa > 0).all()) and bool((self.dof > p - 1).all())):
            raise ConfigError(
                f"kappa must be positive and dof above p - 1 = {p - 1}, got {self.kappa.min():g} "
                f"and {self.dof.min():g} at least"
            )

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def dim(self) -> int:
        """Dimensions, p."""
        return int(self.mean.shape[1])

    @cached_property
    def chol(self) -> Array:
        """[K, p, p] lower triangular factors of the scales."""
        return cholesky(self.scale)

    @cached_property
    def log_det(self) -> Array:
        """[K] log |Ψ|."""
        diagonal = np.diagonal(self.chol, axis1=1, axis2=2)
        found: Array = 2.0 * np.log(diagonal).sum(1)
        return found

    @cached_property
    def log_partition(self) -> Array:
        """[K] log of what normalises the law, up to terms in p and π alone."""
        p = self.dim
        found: Array = (
            gammaln((self.dof[:, None] - np.arange(p)) / 2).sum(1)
            - 0.5 * self.dof * self.log_det
            - 0.5 * p * np.log(self.kappa)
        )
        return found

    @cached_property
    def log_constant(self) -> Array:
        """[K] E[log N(μ | μ, Σ)] where μ is the law's mean: what does not depend on the row."""
        p = self.dim
        found: Array = 0.5 * (
            _psi(self.dof, p) - self.log_det - p / self.kappa - p * math.log(math.pi)
        )
        return found

    @cached_property
    def whitener(self) -> Array:
        """[K, p, p] W with W W' = Ψ⁻¹, so that (y - m)' Ψ⁻¹ (y - m) = |(y - m) W|²."""
        return np.asarray(np.linalg.inv(self.chol), np.float64).transpose(0, 2, 1)

    def take(self, index: Any) -> NIW:
        """Some of them, in the order of an index array or slice; what is known of them stays."""
        found = NIW(self.mean[index], self.kappa[index], self.dof[index], self.scale[index])
        for name in ("chol", "log_det", "log_partition", "log_constant", "whitener"):
            if name in self.__dict__:
                found.__dict__[name] = self.__dict__[name][index]
        return found

    def covariance(self) -> Array:
        """[K, p, p] E[Σ]; needs ν > p + 1."""
        spare = self.dof - self.dim - 1
        if not bool((spare > 0).all()):
            raise ConfigError(
                f"E[Σ] needs dof above p + 1 = {self.dim + 1}, got {self.dof.min():g}"
            )
        return self.scale / spare[:, None, None]

    @staticmethod
    def stack(*laws: NIW) -> NIW:
        """Laws one after the other."""
        return NIW(
            np.concatenate([law.mean for law in laws]),
            np.concatenate([law.kappa for law in laws]),
            np.concatenate([law.dof for law in laws]),
            np.concatenate([law.scale for law in laws]),
        )


def cholesky(matrices: Array) -> Array:
    """Lower factors of [K, p, p]; a matrix that is not positive definite gets a ridge, aloud.

    Raises:
        NumericsError: if a matrix is not finite, or a ridge of a thousandth of its mean diagonal
            does not make it positive definite.
    """
    if not bool(np.isfinite(matrices).all()):
        raise NumericsError("a scale matrix is not finite; check the data for huge values")
    try:
        found = np.asarray(np.linalg.cholesky(matrices), dtype=np.float64)
    except np.linalg.LinAlgError:
        return np.stack([_with_ridge(matrix) for matrix in matrices])
    return found


def _with_ridge(matrix: Array) -> Array:
    mean = float(np.trace(matrix)) / len(matrix)
    for power in (None, -12, -10, -8, -6, -4, -3):
        ridge = 0.0 if power is None else abs(mean) * 10.0**power
        try:
            found = np.asarray(np.linalg.cholesky(matrix + ridge * np.eye(len(matrix))), np.float64)
        except np.linalg.LinAlgError:
            continue
        if ridge:
            warnings.warn(
                f"a scale matrix is not positive definite; {ridge:.2g} was added to its diagonal",
                RuntimeWarning,
                stacklevel=3,
            )
        return found
    raise NumericsError(
        "a scale matrix is not positive definite; are columns constant or copies of each other?"
    )


def _psi(dof: Array, p: int) -> Array:
    """Multivariate digamma, Σ_i ψ((ν + 1 - i) / 2)."""
    found: Array = digamma((dof[:, None] - np.arange(p)) / 2).sum(1)
    return found


def squared_distances(y: Array, mean: Array, whitener: Array) -> Array:
    """[M, K] of |(y - m) W|², block by block of rows."""
    k, p = mean.shape
    flat = whitener.transpose(1, 0, 2).reshape(p, k * p)
    shift = np.einsum("kp,kpq->kq", mean, whitener).reshape(k * p)
    rows = max(1, BLOCK_BYTES // (8 * k * p))
    out = np.empty((len(y), k))
    for i in range(0, len(y), rows):
        white = y[i : i + rows] @ flat
        white -= shift
        np.square(white, out=white)
        out[i : i + rows] = white.reshape(-1, k, p).sum(2)
    return out


def expected_log_density(law: NIW, y: Array) -> Array:
    """[M, K] E[log N(y | μ, Σ)] under each law, nats.

    -(p/2) log 2π + ½ (ψ_p(ν/2) + p log 2 - log|Ψ|) - ½ (p/κ + ν (y - m)' Ψ⁻¹ (y - m)).

    Reference: Bishop (2006), 10.64 and 10.65.
    """
    out = squared_distances(y, law.mean, law.whitener)
    out *= -0.5 * law.dof
    out += law.log_constant
    return out


def kl_niw(q: NIW, p0: NIW) -> Array:
    """[K] KL(q‖p0) law by law, nats."""
    p = q.dim
    shift = q.mean - p0.mean
    distance = np.square(np.einsum("kp,kpq->kq", shift, q.whitener)).sum(1)
    # tr(Ψ0 Ψ⁻¹) = |W' L0|².
    traces = np.square(np.matmul(q.whitener.transpose(0, 2, 1), p0.chol)).sum((1, 2))
    ratio = p0.kappa / q.kappa
    found: Array = (
        0.5 * p * (ratio - 1 - np.log(ratio))
        + 0.5 * p0.kappa * q.dof * distance
        + 0.5 * p0.dof * (q.log_det - p0.log_det)
        + multigammaln(p0.dof / 2, p)
        - multigammaln(q.dof / 2, p)
        + 0.5 * (q.dof - p0.dof) * _psi(q.dof, p)
        + 0.5 * q.dof * (traces - p)
    )
    return found


def log_evidence(q: NIW, p0: NIW, counts: Array) -> Array:
    """[K] log of the marginal density of N_k weighted rows, where q is their posterior from p0.

    Reference: Murphy (2007), equation 266.
    """
    constant = 0.5 * q.dim * math.log(math.pi)
    found: Array = q.log_partition - p0.log_partition - constant * counts
    return found


def student_log_density(law: NIW, y: Array) -> Array:
    """[M, K] predictive log-density of new rows: Student-t with ν - p + 1 degrees of freedom."""
    p = law.dim
    df = law.dof - p + 1
    # Shape matrix Ψ (κ + 1) / (κ df): distances in Ψ only need a factor.
    factor = law.kappa * df / (law.kappa + 1)
    distance = squared_distances(y, law.mean, law.whitener) * factor
    constant = (
        gammaln((df + p) / 2)
        - gammaln(df / 2)
        - 0.5 * p * np.log(df * math.pi)
        - 0.5 * (law.log_det - p * np.log(factor))
    )
    found: Array = constant - 0.5 * (df + p) * np.log1p(distance / df)
    return found
