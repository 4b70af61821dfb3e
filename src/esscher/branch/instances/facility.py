"""Capacitated facility location (Cornuéjols, Sridharan and Thizy, 1991)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from esscher.branch.instances.kind import Draw, check_number, check_whole, integers
from esscher.branch.milp import Milp
from esscher.errors import ConfigError

__all__ = ["Facility", "facility_milp", "rescaled"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

DEMANDS = (5, 35)
CAPACITIES = (10, 160)
COSTS_BY_ROOT = (100, 110)
COSTS = (0, 90)
"""All are inclusive ranges of whole numbers."""


@dataclass(frozen=True)
class Facility:
    """Open facilities and serve customers from them at the least cost.

    Customers and facilities are uniform on the unit square; serving the share x of a customer with
    demand d over the distance r costs 10 d r x.

    Attributes:
        n_customers: at least 1.
        n_facilities: at least 1.
        ratio: total capacity by total demand, before capacities are rounded down.
        continuous_assignment: a customer may be served by several facilities; else the shares are
            binary.

    Raises:
        ConfigError: if a field is out of range; it is named.
    """

    n_customers: int = 100
    n_facilities: int = 100
    ratio: float = 5.0
    continuous_assignment: bool = True

    def __post_init__(self) -> None:
        check_whole("n_customers", self.n_customers, 1)
        check_whole("n_facilities", self.n_facilities, 1)
        check_number("ratio", self.ratio, 1.0)
        if not isinstance(self.continuous_assignment, bool):
            raise ConfigError(
                f"continuous_assignment must be a bool, got {self.continuous_assignment!r}"
            )

    @property
    def name(self) -> str:
        """Such as "facility-100x100": customers, facilities."""
        return f"facility-{self.n_customers}x{self.n_facilities}"

    def sample(self, rng: Draw) -> Milp:
        """Draw a program.

        Raises:
            ConfigError: if rounding took so much capacity that the demand cannot be met.
        """
        n, m = self.n_customers, self.n_facilities
        across, up = rng.random(n)[:, None], rng.random(n)[:, None]
        across, up = across - rng.random(m), up - rng.random(m)
        demands = integers(rng, *DEMANDS, n)
        capacities = integers(rng, *CAPACITIES, m)
        by_root = integers(rng, *COSTS_BY_ROOT, m) * np.sqrt(capacities)
        opening = (by_root + integers(rng, *COSTS, m)).astype(np.int64)
        serving: Floats = np.sqrt(across**2 + up**2) * 10 * demands[:, None]
        return facility_milp(
            demands, rescaled(capacities, demands, self.ratio), opening, serving,
            continuous=self.continuous_assignment, name=self.name,
        )  # fmt: skip


def rescaled(capacities: Ints, demands: Ints, ratio: float) -> Ints:
    """[m] capacities in the same proportions, summing to ratio * total demand, rounded down.

    Raises:
        ConfigError: if they then sum to less than the demand.
    """
    scaled: Ints = (capacities * ratio * demands.sum() / capacities.sum()).astype(np.int64)
    if scaled.sum() < demands.sum():
        raise ConfigError(
            f"ratio {ratio:g} leaves a capacity of {scaled.sum()} for a demand of {demands.sum()} "
            "once capacities are whole numbers; raise ratio"
        )
    return scaled


def facility_milp(
    demands: Ints, capacities: Ints, opening: Ints, serving: Floats, *, continuous: bool, name: str
) -> Milp:
    """The program of given numbers.

    Args:
        demands: [n] of customers.
        capacities: [m] of facilities.
        opening: [m] cost of opening each.
        serving: [n, m] cost of serving all of a customer's demand.
        continuous: whether x_ij may be a fraction.
        name: of the program.

    Returns:
        Variables x_ij, by customers, then y_j; rows: every customer is served (n), capacities (m),
        total capacity of what is open (1), x_ij <= y_j (n m).
    """
    n, m = serving.shape
    each = sparse.eye_array(n * m)
    served = sparse.kron(sparse.eye_array(n), np.ones((1, m)))
    used = sparse.kron(demands[None, :].astype(np.float64), sparse.eye_array(m))
    room = sparse.diags_array(capacities.astype(np.float64))
    opened = sparse.kron(np.ones((n, 1)), sparse.eye_array(m))
    total = sparse.csr_array(capacities[None, :].astype(np.float64))
    matrix = sparse.block_array(
        [[served, None], [used, -room], [None, total], [each, -opened]], format="csr"
    )
    matrix.eliminate_zeros()
    limits = np.zeros(m + n * m)
    shares = np.full(n * m, not continuous)
    return Milp(
        objective=np.concatenate([serving.ravel(), opening]).astype(np.float64),
        matrix=matrix,
        row_low=np.concatenate(
            [np.ones(n), np.full(m, -np.inf), [float(demands.sum())], np.full(n * m, -np.inf)]
        ),
        row_high=np.concatenate([np.full(n, np.inf), limits[:m], [np.inf], limits[m:]]),
        low=np.zeros(n * m + m),
        high=np.ones(n * m + m),
        integer=np.concatenate([shares, np.ones(m, dtype=np.bool_)]),
        name=name,
    )
