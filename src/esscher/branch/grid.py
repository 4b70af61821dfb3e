"""Rows of an evaluation as arrays over policies, instances and seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esscher.branch.rows import Row
from esscher.errors import DataError

__all__ = ["Grid"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Rows as arrays [P, I, S] over policies, instances and seeds.

    Attributes:
        policies: labels.
        instances: names.
        seeds: of SCIP and the policies.
        ended: bool, whether the solve came to its end.
        nodes: of the tree.
        fair_nodes: see `esscher.branch.fair`; NaN where not known.
        decisions: of the policy.
        seconds: of the solve, the limit's where it was reached.
        policy_seconds: of them in the policy.
        objective: NaN without a solution.
    """

    policies: tuple[str, ...]
    instances: tuple[str, ...]
    seeds: tuple[int, ...]
    ended: NDArray[np.bool_]
    nodes: Floats
    fair_nodes: Floats
    decisions: Floats
    seconds: Floats
    policy_seconds: Floats
    objective: Floats

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Grid:
        """Arrange rows.

        Raises:
            DataError: if a combination is missing or occurs twice, or there is no row.
        """
        policies, instances, seeds = (
            tuple(dict.fromkeys(getattr(row, name) for row in rows))
            for name in ("policy", "instance", "seed")
        )
        by_key = {row.key: row for row in rows}
        shape = (len(policies), len(instances), len(seeds))
        if not rows or len(by_key) != len(rows) or len(rows) != math.prod(shape):
            raise DataError(
                f"{len(rows)} rows do not make a table of {shape[0]} policies, {shape[1]} "
                f"instances and {shape[2]} seeds, each once"
            )
        ordered = [by_key[p, i, s] for p in policies for i in instances for s in seeds]

        def column(name: str) -> Floats:
            values = [getattr(row, name) for row in ordered]
            return np.array(values, dtype=np.float64).reshape(shape)

        return cls(
            policies, instances, seeds, column("ended") > 0, column("nodes"),
            column("fair_nodes"), column("decisions"), column("seconds"),
            column("policy_seconds"), column("objective"),
        )  # fmt: skip

    @property
    def common(self) -> NDArray[np.bool_]:
        """[I, S] whether every policy came to the end."""
        return np.asarray(self.ended.all(0))

    @property
    def fair(self) -> Floats:
        """[P, I, S] fair nodes, or nodes where they are not known."""
        return np.where(np.isnan(self.fair_nodes), self.nodes, self.fair_nodes)

    def disagreeing(self, tolerance: float = 1e-6) -> list[str]:
        """Instances on which solves that ended found optima that differ by more, relatively."""
        found = []
        for k, name in enumerate(self.instances):
            values = self.objective[:, k][self.ended[:, k]]
            known = values[~np.isnan(values)]
            mixed = 0 < len(known) < len(values)
            spread = len(known) and np.ptp(known) > tolerance * max(1.0, np.abs(known).max())
            if mixed or spread:
                found.append(name)
        return found
