"""What a class of random instances is, and the stream of its instances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from esscher.branch.milp import Milp
from esscher.errors import ConfigError
from esscher.kit.runs.seeds import Streams

__all__ = ["Draw", "InstanceClass", "check_number", "check_whole", "instance", "integers"]

Draw: TypeAlias = np.random.Generator | np.random.RandomState
"""A source of random numbers. The legacy one is for repeating what others published."""


@runtime_checkable
class InstanceClass(Protocol):
    """A law over programs: a frozen dataclass whose fields are the law's parameters."""

    @property
    def name(self) -> str:
        """Class and size, such as "setcover-165x230"; programs bear it."""
        ...

    def sample(self, rng: Draw) -> Milp:
        """Draw a program."""
        ...


def instance(kind: InstanceClass, seed: int, i: int) -> Milp:
    """Instance `i` of a stream; it depends on the class, the seed and `i` only.

    Args:
        kind: the law.
        seed: of the stream, 0 <= seed < 2**64. Give training and evaluation different seeds.
        i: which instance, 0, 1, ….

    Raises:
        ConfigError: if the seed or `i` is out of range.
    """
    check_whole("i", i, 0)
    milp = kind.sample(Streams(seed).numpy("instances", i))
    return replace(milp, name=f"{milp.name}-{seed}-{i}")


def integers(rng: Draw, low: int, high: int, size: int) -> NDArray[np.int64]:
    """[size] whole numbers in low .. high, both included, from either kind of source."""
    draw: Any = rng.randint if isinstance(rng, np.random.RandomState) else rng.integers
    drawn: NDArray[np.int64] = draw(low, high + 1, size)
    return drawn


def check_whole(field: str, value: object, least: int) -> None:
    """Refuse what is no whole number of at least `least`.

    Raises:
        ConfigError: it names the field.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{field} must be a whole number of at least {least}, got {value!r}")


def check_number(field: str, value: object, least: float, most: float = 1e9) -> None:
    """Refuse what is no number in [least, most].

    Raises:
        ConfigError: it names the field.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least <= value <= most:  # type: ignore[operator]
        raise ConfigError(f"{field} must be a number in [{least:g}, {most:g}], got {value!r}")
