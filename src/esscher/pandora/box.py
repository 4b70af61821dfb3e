"""A box: a finite law of its value, what it costs to open it, and its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esscher.errors import ConfigError
from esscher.pandora.indices import check_cost, discrete_backup, discrete_reservation

if TYPE_CHECKING:
    from esscher.pandora.law import Law

__all__ = ["Box"]

Array = NDArray[np.float64]
SUM_TOLERANCE = 1e-9
"""How far probabilities may be from summing to 1; closer ones are divided by their sum."""


@dataclass(frozen=True, init=False, eq=False)
class Box:
    """A closed box: its value is X, seen for `cost`, or taken unseen for E X.

    Equal values are merged and atoms of probability 0 dropped.

    Attributes:
        values: [k] increasing, finite; read-only.
        probs: [k] > 0, summing to 1; read-only.
        cost: of opening it, finite, at least 0, in the units of the values.
        name: how policies and messages call it; an instance numbers those that have none.

    Raises:
        ConfigError: naming the box, if values or probabilities are empty, of different lengths,
            not finite or negative, or do not sum to 1, or the cost is negative or not finite.
    """

    values: Array
    probs: Array
    cost: float
    name: str

    def __init__(self, values: ArrayLike, probs: ArrayLike, cost: float, name: str = "") -> None:
        label = _label(name)
        atoms, mass = _law(values, probs, label)
        for field, value in (
            ("values", atoms),
            ("probs", mass),
            ("cost", check_cost(cost, label)),
            ("name", str(name)),
        ):
            object.__setattr__(self, field, value)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Box) and self.name == other.name and self.type_key == other.type_key
        )

    def __hash__(self) -> int:
        return hash((self.name, self.type_key))

    @cached_property
    def mean(self) -> float:
        """E X, what the box is worth unseen."""
        return float(self.probs @ self.values)

    @cached_property
    def sigma(self) -> float:
        """Reservation value σ: E(X - σ)⁺ = cost."""
        return discrete_reservation(self.values, self.probs, self.cost)

    @cached_property
    def beta(self) -> float:
        """Backup value β: E(β - X)⁺ = cost."""
        return discrete_backup(self.values, self.probs, self.cost)

    @property
    def reservation_value(self) -> float:
        """The same as `sigma`."""
        return self.sigma

    @property
    def backup_value(self) -> float:
        """The same as `beta`."""
        return self.beta

    @property
    def type_key(self) -> tuple[bytes, bytes, float]:
        """Equal for boxes that differ in their names only."""
        return self.values.tobytes(), self.probs.tobytes(), self.cost

    @property
    def capped(self) -> tuple[Array, Array]:
        """([m] values, [m] probs) of κ = min(X, σ), what the box is worth to whoever must open it.

        Its mean is E X - cost.
        """
        return _merge(np.minimum(self.values, self.sigma), self.probs)

    @property
    def surrogate(self) -> tuple[Array, Array]:
        """([m] values, [m] probs) of X held within [β, σ], or of the constant E X where β > σ.

        The largest of these over the boxes is worth at least any policy.
        """
        if self.beta > self.sigma:
            return np.array([self.mean]), np.array([1.0])
        return _merge(np.clip(self.values, self.beta, self.sigma), self.probs)

    def replace(self, *, cost: float | None = None, name: str | None = None) -> Box:
        """The same law at another cost or under another name."""
        return Box(
            self.values,
            self.probs,
            self.cost if cost is None else cost,
            self.name if name is None else name,
        )

    @classmethod
    def bernoulli(cls, value: float, prob: float, cost: float, name: str = "") -> Box:
        """`value` with probability `prob`, else 0.

        Raises:
            ConfigError: naming the box.
        """
        if not 0 <= prob <= 1:
            raise ConfigError(f"{_label(name)}: a probability is in [0, 1], got {prob:g}")
        return cls([0.0, value], [1.0 - prob, prob], cost, name)

    @classmethod
    def uniform(
        cls, low: float, high: float, cost: float, name: str = "", n_atoms: int = 64
    ) -> Box:
        """X uniform on [low, high], as `from_law` makes it finite.

        Raises:
            ConfigError: naming the box, unless low < high.
        """
        return cls._named(name, lambda: _laws().Uniform(low, high), cost, n_atoms)

    @classmethod
    def exponential(cls, rate: float, cost: float, name: str = "", n_atoms: int = 64) -> Box:
        """X exponential with mean 1 / rate, as `from_law` makes it finite.

        Raises:
            ConfigError: naming the box, unless rate > 0.
        """
        return cls._named(name, lambda: _laws().Exponential(rate), cost, n_atoms)

    @classmethod
    def normal(cls, mean: float, sd: float, cost: float, name: str = "", n_atoms: int = 64) -> Box:
        """X normal, as `from_law` makes it finite.

        Raises:
            ConfigError: naming the box, unless sd > 0.
        """
        return cls._named(name, lambda: _laws().Normal(mean, sd), cost, n_atoms)

    @classmethod
    def from_scipy(cls, dist: Any, cost: float, name: str = "", n_atoms: int = 64) -> Box:
        """X follows a frozen scipy distribution, as `from_law` makes it finite.

        A discrete distribution keeps its atoms, but for tails of 1e-13.

        Raises:
            ConfigError: naming the box, if its mean is not finite.
        """
        return cls._named(name, lambda: _frozen(dist), cost, n_atoms)

    @classmethod
    def from_law(cls, law: Law, cost: float, name: str = "", n_atoms: int = 64) -> Box:
        """A finite law in the place of a continuous one, with the same E X, σ and β.

        The line is cut into `n_atoms` cells of equal probability, and at σ and β; each cell
        becomes an atom at its conditional mean. As σ and β are ends of cells, E X, E(X - σ)⁺
        and E(β - X)⁺ stay what they were.

        Raises:
            ConfigError: naming the box.
        """
        return cls._named(name, lambda: law, cost, n_atoms)

    @classmethod
    def from_samples(cls, samples: ArrayLike, cost: float, name: str = "") -> Box:
        """The empirical law of [n] observed values.

        Raises:
            ConfigError: naming the box, if there are none or one is not finite.
        """
        found = np.asarray(samples, dtype=float).ravel()
        n = max(len(found), 1)
        return cls(found, np.full(len(found), 1.0 / n), cost, name)

    @classmethod
    def _named(cls, name: str, make: Callable[[], Law], cost: float, n_atoms: int) -> Box:
        """A box of a law; what is wrong with the law is said with the box's name."""
        paid = check_cost(cost, _label(name))
        try:
            values, probs = make().discretise(paid, n_atoms)
        except ConfigError as error:
            raise ConfigError(f"{_label(name)}: {error}") from error
        return cls(values, probs, paid, name)


def _label(name: str) -> str:
    return f"box {name!r}" if name else "a box without a name"


def _laws() -> Any:
    """Scipy is loaded only where a continuous law is asked for."""
    from esscher.pandora import law  # noqa: PLC0415

    return law


def _frozen(dist: Any) -> Law:
    from esscher.pandora.frozen import Frozen  # noqa: PLC0415

    return Frozen(dist)


def _law(values: ArrayLike, probs: ArrayLike, label: str) -> tuple[Array, Array]:
    """Increasing atoms and their probabilities, checked."""
    try:
        v, p = np.array(values, dtype=float), np.array(probs, dtype=float)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{label}: values and probs must be lists of numbers: {error}") from error
    if v.ndim != 1 or v.shape != p.shape:
        raise ConfigError(f"{label}: as many probs as values are needed, got {v.shape}, {p.shape}")
    if not len(v):
        raise ConfigError(f"{label}: at least one value is needed, got none")
    if not (np.isfinite(v).all() and np.isfinite(p).all()):
        raise ConfigError(f"{label}: values and probs must be finite, got {v} and {p}")
    if (p < 0).any():
        raise ConfigError(f"{label}: probabilities must not be negative, got {p.min():g}")
    if abs(p.sum() - 1.0) > SUM_TOLERANCE:
        raise ConfigError(f"{label}: probabilities must sum to 1, got {p.sum():.12g}")
    return _merge(v, p / p.sum())


def _merge(values: Array, probs: Array) -> tuple[Array, Array]:
    """Distinct atoms in increasing order, without those of probability 0; read-only."""
    # 0.0 + x turns -0.0 into 0.0, so that equal boxes have equal bytes
    atoms, place = np.unique(values[probs > 0] + 0.0, return_inverse=True)
    mass = np.bincount(place, weights=probs[probs > 0], minlength=len(atoms)).astype(float)
    atoms.flags.writeable = mass.flags.writeable = False
    return atoms, mass
