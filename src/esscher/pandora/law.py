"""Continuous laws with exact indices, and finite laws in their place.

E(X - σ)⁺ = c and E(β - X)⁺ = c, in closed form for the uniform and the exponential law, and by a
root in logarithms for the normal, so that the tiniest cost has an index.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from esscher.errors import ConfigError

__all__ = ["Exponential", "Law", "Normal", "Uniform"]

Array = NDArray[np.float64]


class Law(ABC):
    """A law of one value with a finite mean."""

    @property
    @abstractmethod
    def mean(self) -> float:
        """E X."""

    @abstractmethod
    def reservation_value(self, cost: float) -> float:
        """σ with E(X - σ)⁺ = cost; at 0 the upper end of the support, which may be inf."""

    @abstractmethod
    def backup_value(self, cost: float) -> float:
        """β with E(β - X)⁺ = cost; at 0 the lower end of the support, which may be -inf."""

    @abstractmethod
    def quantile(self, prob: Array) -> Array:
        """Values below which X is with these probabilities, strictly between 0 and 1."""

    @abstractmethod
    def cells(self, ends: Array) -> tuple[Array, Array]:
        """([m + 1] probabilities, [m + 1] conditional means) of the cells between [m] ends.

        The first and the last cell are unbounded, or end with the support.
        """

    def discretise(self, cost: float, n_atoms: int) -> tuple[Array, Array]:
        """([k] values, [k] probs), k ≤ n_atoms + 2, with the same E X, σ and β at this cost.

        Raises:
            ConfigError: if n_atoms is not at least 1.
        """
        if n_atoms < 1 or int(n_atoms) != n_atoms:
            raise ConfigError(f"a law needs a whole number of atoms, at least 1, got {n_atoms}")
        ends = self.quantile(np.arange(1, int(n_atoms)) / int(n_atoms))
        marks = np.array([self.reservation_value(cost), self.backup_value(cost)])
        ends = np.unique(np.concatenate([ends, marks[np.isfinite(marks)]]))
        probs, means = self.cells(ends)
        means = np.clip(means, np.append(-np.inf, ends), np.append(ends, np.inf))
        kept = probs > 0
        return means[kept], probs[kept] / probs.sum()


@dataclass(frozen=True)
class Uniform(Law):
    """Uniform on [low, high].

    Raises:
        ConfigError: unless both are finite and low < high.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"a uniform law needs low < high, got {self.low} and {self.high}")

    @property
    def mean(self) -> float:
        """(low + high) / 2."""
        return 0.5 * (self.low + self.high)

    def reservation_value(self, cost: float) -> float:
        """High - √(2c(high - low)), or E X - c from half the width up."""
        width = self.high - self.low
        if cost > 0.5 * width:
            return self.mean - cost
        return self.high - math.sqrt(2.0 * cost * width)

    def backup_value(self, cost: float) -> float:
        """Low + √(2c(high - low)), or E X + c from half the width up."""
        return self.low + self.high - self.reservation_value(cost)

    def quantile(self, prob: Array) -> Array:
        """Linear."""
        return self.low + (self.high - self.low) * prob

    def cells(self, ends: Array) -> tuple[Array, Array]:
        """Lengths and midpoints of the cells within the support."""
        inside = np.clip(ends, self.low, self.high)
        edges = np.concatenate([[self.low], inside, [self.high]])
        return np.diff(edges) / (self.high - self.low), 0.5 * (edges[1:] + edges[:-1])


@dataclass(frozen=True)
class Exponential(Law):
    """Exponential with mean 1 / rate.

    Raises:
        ConfigError: unless rate is positive and finite.
    """

    rate: float

    def __post_init__(self) -> None:
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise ConfigError(f"an exponential law needs a positive rate, got {self.rate}")

    @property
    def mean(self) -> float:
        """1 / rate."""
        return 1.0 / self.rate

    def reservation_value(self, cost: float) -> float:
        """-ln(rate·c) / rate, or E X - c where that is negative."""
        scaled = self.rate * cost
        if scaled == 0:
            return math.inf
        return -math.log(scaled) / self.rate if scaled <= 1 else self.mean - cost

    def backup_value(self, cost: float) -> float:
        """T / rate with t - 1 + e^-t = rate·c, by Newton's method from below."""
        scaled = self.rate * cost
        t = max(math.sqrt(2.0 * scaled), scaled)
        for _ in range(100):
            if t == 0:
                break
            step = (_linear_excess(t) - scaled) / -math.expm1(-t)
            t -= step
            if abs(step) <= 1e-16 * t:
                break
        return t / self.rate

    def quantile(self, prob: Array) -> Array:
        """-ln(1 - prob) / rate."""
        found: Array = -np.log1p(-prob) / self.rate
        return found

    def cells(self, ends: Array) -> tuple[Array, Array]:
        """By the law of the rest being exponential again."""
        start = np.concatenate([[0.0], np.maximum(ends, 0.0)])
        width = np.append(np.diff(start), np.inf) * self.rate
        probs = np.exp(-self.rate * start) * -np.expm1(-width)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            left = np.where(width < np.inf, width / np.expm1(width), 0.0)
        left = np.where(width > 0, left, 1.0)
        return probs, start + (1.0 - left) / self.rate


@dataclass(frozen=True)
class Normal(Law):
    """Normal with mean `centre` and standard deviation `sd`.

    Raises:
        ConfigError: unless centre is finite and sd positive and finite.
    """

    centre: float
    sd: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.centre) and math.isfinite(self.sd) and self.sd > 0):
            raise ConfigError(
                f"a normal law needs a finite mean and sd > 0, got {self.centre} and {self.sd}"
            )

    @property
    def mean(self) -> float:
        """The centre."""
        return float(self.centre)

    def reservation_value(self, cost: float) -> float:
        """Centre - sd·u, where φ(u) + uΦ(u) = c / sd is solved in logarithms."""
        if cost == 0:
            return math.inf
        wanted = math.log(cost) - math.log(self.sd)
        high = max(math.exp(min(wanted, 700.0)), 1.0)
        low = -math.sqrt(2.0 * max(-wanted, 0.0) + 2.0)
        u = optimize.brentq(
            lambda v: _log_normal_excess(v) - wanted, low, high, xtol=1e-15, rtol=1e-15
        )
        return float(self.centre - self.sd * u)

    def backup_value(self, cost: float) -> float:
        """The mirror image of σ: 2·centre - σ."""
        return 2.0 * self.centre - self.reservation_value(cost)

    def quantile(self, prob: Array) -> Array:
        """By scipy's inverse of Φ."""
        found: Array = self.centre + self.sd * special.ndtri(prob)
        return found

    def cells(self, ends: Array) -> tuple[Array, Array]:
        """Probabilities from the nearer tail; means from differences of densities."""
        u = np.concatenate([[-np.inf], (ends - self.centre) / self.sd, [np.inf]])
        lower, upper = special.ndtr(u), special.ndtr(-u)
        probs = np.where(u[:-1] > 0, upper[:-1] - upper[1:], lower[1:] - lower[:-1])
        density = np.exp(-0.5 * u**2) / math.sqrt(2.0 * math.pi)
        rise = density[:-1] - density[1:]
        means = np.divide(rise, probs, out=np.zeros_like(probs), where=probs > 0)
        return probs, self.centre + self.sd * means


def _linear_excess(t: float) -> float:
    """T - 1 + e^-t, by its series where the terms cancel."""
    if t > 0.5:
        return t + math.expm1(-t)
    term, total = 0.5 * t * t, 0.0
    for k in range(3, 24):
        total += term
        term *= -t / k
    return total


def _log_normal_excess(u: float) -> float:
    """log(φ(u) + uΦ(u)), where u < 0 by erfcx, so that nothing underflows."""
    if u > -1:
        return math.log(math.exp(-0.5 * u * u) / math.sqrt(2.0 * math.pi) + u * special.ndtr(u))
    mills = math.sqrt(0.5 * math.pi) * float(special.erfcx(-u / math.sqrt(2.0)))
    return -0.5 * u * u - 0.5 * math.log(2.0 * math.pi) + math.log1p(u * mills)
