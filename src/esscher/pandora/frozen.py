"""Any distribution of scipy as a law: its indices are roots of integrals."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, special

from esscher.errors import ConfigError, NumericsError
from esscher.pandora.indices import discrete_backup, discrete_reservation
from esscher.pandora.law import Law

__all__ = ["Frozen"]

Array = NDArray[np.float64]
TAIL = 1e-13
"""Probability that a discrete law with infinitely many atoms may lose at either end."""
MAX_ATOMS = 10**6


@dataclass(frozen=True)
class Frozen(Law):
    """A frozen distribution of scipy, continuous or discrete.

    Raises:
        ConfigError: if it is not one, or its mean is not finite: σ is then not defined.
    """

    dist: Any

    def __post_init__(self) -> None:
        if not (hasattr(self.dist, "sf") and hasattr(self.dist, "mean")):
            raise ConfigError(f"a frozen scipy distribution is needed, got {self.dist!r}")
        with np.errstate(all="ignore"):
            mean = float(self.dist.mean())
        if not math.isfinite(mean):
            raise ConfigError(
                f"the mean must be finite, or no reservation value exists; got {mean}"
            )

    @property
    def mean(self) -> float:
        """As scipy has it."""
        return float(self.dist.mean())

    @property
    def discrete(self) -> bool:
        """Whether it has atoms rather than a density."""
        return hasattr(self.dist, "pmf")

    def reservation_value(self, cost: float) -> float:
        """The root of E(X - g)⁺ = c; among atoms as a finite law has it."""
        if self.discrete:
            return self._finite(cost)[0]
        if cost == 0:
            return float(self.dist.support()[1])
        return self._root(cost, self._above, self.dist.sf, 1.0)

    def backup_value(self, cost: float) -> float:
        """The root of E(g - X)⁺ = c; among atoms as a finite law has it."""
        if self.discrete:
            return self._finite(cost)[1]
        if cost == 0:
            return float(self.dist.support()[0])
        return self._root(cost, self._below, self.dist.cdf, -1.0)

    def quantile(self, prob: Array) -> Array:
        """As scipy has it."""
        return np.asarray(self.dist.ppf(prob), dtype=float)

    def cells(self, ends: Array) -> tuple[Array, Array]:
        """E(X; a < X ≤ b) from integrals of the distribution function over the cells."""
        low, high = (float(end) for end in self.dist.support())
        inner = np.unique(ends[(ends > low) & (ends < high)])
        edges = np.concatenate([[low], inner, [high]])
        upper, lower = self.dist.sf(edges), self.dist.cdf(edges)
        probs = np.where(edges[:-1] > self.mean, upper[:-1] - upper[1:], lower[1:] - lower[:-1])
        means = np.empty(len(probs))
        for k, (a, b) in enumerate(itertools.pairwise(edges)):
            if math.isfinite(a):
                rest = 0.0 if b == math.inf else (b - a) * upper[k + 1]
                excess = _integral(self.dist.sf, a, b) - rest
                means[k] = a + excess / probs[k] if probs[k] > 0 else a
            else:
                means[k] = b - self._below(b) / probs[k] if probs[k] > 0 else b
        place = np.searchsorted(ends, inner)
        return self._padded(probs, means, place, ends)

    def discretise(self, cost: float, n_atoms: int) -> tuple[Array, Array]:
        """Cells as of any law; a discrete one keeps its own atoms."""
        if not self.discrete:
            return super().discretise(cost, n_atoms)
        return self._atoms()

    def _padded(
        self, probs: Array, means: Array, place: NDArray[np.int64], ends: Array
    ) -> tuple[Array, Array]:
        """Cells beyond the support have probability 0."""
        all_probs, all_means = np.zeros(len(ends) + 1), np.append(ends, ends[-1:])
        spots = np.append(place, place[-1] + 1 if len(place) else np.searchsorted(ends, self.mean))
        all_probs[spots], all_means[spots] = probs, means
        return all_probs, all_means

    def _above(self, g: float) -> float:
        """E(X - g)⁺."""
        low, high = self.dist.support()
        if g <= low:
            return self.mean - g
        return _integral(self.dist.sf, g, float(high)) if g < high else 0.0

    def _below(self, g: float) -> float:
        """E(g - X)⁺."""
        low, high = self.dist.support()
        if g >= high:
            return g - self.mean
        return _integral(self.dist.cdf, float(low), g) if g > low else 0.0

    def _root(self, cost: float, excess: Any, mass: Any, sign: float) -> float:
        """Newton's method in logarithms, held within a bracket.

        Both excesses are at least the cost at that distance from the mean, on one side; on the
        other the distance is doubled until they are below it.
        """
        far, step = self.mean - sign * cost, max(cost, abs(self.mean), 1.0)
        while excess(self.mean + sign * step) > cost:
            far, step = self.mean + sign * step, 2.0 * step
        near, g = self.mean + sign * step, far
        for _ in range(200):
            found = excess(g)
            height = math.log(found / cost) if found > 0 else -math.inf
            far, near = (g, near) if height >= 0 else (far, g)
            slope = float(mass(g)) / found if found > 0 else 0.0
            new = g + sign * height / slope if slope > 0 else near
            if not min(far, near) < new < max(far, near):
                new = 0.5 * (far + near)
            if abs(height) <= 1e-13 or abs(new - g) <= 1e-14 * abs(g):
                break
            g = new
        return float(g)

    def _atoms(self) -> tuple[Array, Array]:
        low, high = (float(end) for end in self.dist.support())
        low = low if math.isfinite(low) else float(self.dist.ppf(TAIL))
        high = high if math.isfinite(high) else float(self.dist.isf(TAIL))
        if high - low > MAX_ATOMS:
            raise ConfigError(f"the law has about {high - low:.0f} atoms; {MAX_ATOMS} is the limit")
        values = np.arange(low, high + 1.0)
        probs = np.asarray(self.dist.pmf(values), dtype=float)
        return values[probs > 0], probs[probs > 0] / probs.sum()

    def _finite(self, cost: float) -> tuple[float, float]:
        values, probs = self._atoms()
        return discrete_reservation(values, probs, cost), discrete_backup(values, probs, cost)


def _integral(of: Any, low: float, high: float) -> float:
    """∫ of a distribution function: by two fixed rules if they agree, else adaptively.

    Raises:
        NumericsError: if the error estimate of the adaptive rule is not small.
    """
    once, twice = _by_gauss(of, low, high, 1), _by_gauss(of, low, high, 3)
    if abs(once - twice) <= 1e-13 * abs(twice):
        return twice
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", integrate.IntegrationWarning)
        found, error = integrate.quad(of, low, high, epsabs=0.0, epsrel=1e-12, limit=200)
    if not error <= 1e-7 * abs(found) + 1e-12:
        raise NumericsError(
            f"the integral of a distribution function from {low:g} to {high:g} is {found:g} with "
            f"an error of up to {error:g}; give the law as samples or atoms instead"
        )
    return float(found)


def _by_gauss(of: Any, low: float, high: float, panels: int) -> float:
    """Gauss-Legendre with 64 points a panel; an infinite end by x = end ± t / (1 - t)."""
    nodes, weights = special.roots_legendre(64)
    t = ((nodes[None, :] + 1.0) / 2.0 + np.arange(panels)[:, None]).ravel() / panels
    w = np.tile(weights, panels) / (2.0 * panels)
    if math.isfinite(low) and math.isfinite(high):
        return float((high - low) * (w @ of(low + (high - low) * t)))
    x = t / (1.0 - t)
    values = of(low + x) if math.isfinite(low) else of(high - x)
    return float((w / (1.0 - t) ** 2) @ values)
