"""Reservation and backup values of finite laws, exact."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError

__all__ = ["check_cost", "discrete_backup", "discrete_reservation"]

Array = NDArray[np.float64]


def check_cost(cost: float, whose: str) -> float:
    """A cost as a float.

    Raises:
        ConfigError: naming whose it is, unless it is finite and at least 0.
    """
    found = float(cost)
    if not (math.isfinite(found) and found >= 0):
        raise ConfigError(f"{whose}: the cost must be finite and at least 0, got {found:g}")
    return found


def discrete_reservation(values: Array, probs: Array, cost: float) -> float:
    """The σ with E(X - σ)⁺ = cost, of a finite law.

    E(X - g)⁺ is the largest of the lines T_j - M_j g, where M_j and T_j sum p and p·v over the
    atoms from the j-th up. All fall in g, so the root of the largest is the largest of the roots
    (T_j - cost) / M_j: no iteration, no tolerance.

    Args:
        values: [k] increasing.
        probs: [k] > 0, summing to 1.
        cost: at least 0. At 0 every g from the largest value up solves the equation; the largest
            value is returned.
    """
    if cost == 0:
        return float(values[-1])
    mass = np.cumsum(probs[::-1])
    total = np.cumsum((probs * values)[::-1])
    return float(np.max((total - cost) / mass))


def discrete_backup(values: Array, probs: Array, cost: float) -> float:
    """The β with E(β - X)⁺ = cost, of a finite law: minus the reservation value of -X.

    At cost 0 the least value is returned.
    """
    return -discrete_reservation(-values[::-1], probs[::-1], cost)
