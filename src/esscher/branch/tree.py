"""A recorded branch-and-bound tree."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esscher.errors import DataError

__all__ = ["Fate", "SearchTree"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Fate(enum.IntEnum):
    """What became of a node."""

    OPEN = 0
    """Neither solved nor pruned when the solve was stopped."""
    BRANCHED = 1
    """It has children."""
    INFEASIBLE = 2
    """Its LP, or propagation, found it infeasible."""
    INTEGRAL = 3
    """Its relaxation gave a feasible solution."""
    CUTOFF = 4
    """Its bound was not better than the incumbent, in its LP or while it waited."""


@dataclass(frozen=True)
class SearchTree:
    """Every node that was created; parents come before their children, and the root is node 0.

    Bounds are of the transformed problem, which is always a minimisation.

    Attributes:
        parent: [N] position of the parent, -1 for the root.
        bound: [N] lower bound: of the node's own LP where it was branched on or integral, inf where
            infeasible or cut off in its LP, else that of its creation.
        open_bound: [N] lower bound when the node was created: its parent's.
        fate: [N] see `Fate`.
        variable: [N] position in `names` of the variable whose bound created the node, -1 for the
            root.
        direction: [N] -1 below (new upper bound), +1 above (new lower bound), 0 for the root.
        branch_value: [N] that bound, NaN for the root.
        depth: [N] 0 at the root.
        decision: [N] number of the policy's decision at the node, 0, 1, …; -1 where it took none.
        closed: [N] bool, of nodes with a decision: no child was left in the tree when control next
            came back to the brancher, or the solve ended there.
        names: of the transformed problem's variables, without SCIP's prefix.
        complete: whether the solve ended by itself, and not by a limit.
        number: [N] SCIP's number of the node.
    """

    parent: Ints
    bound: Floats
    open_bound: Floats
    fate: Ints
    variable: Ints
    direction: Ints
    branch_value: Floats
    depth: Ints
    decision: Ints
    closed: NDArray[np.bool_]
    names: tuple[str, ...]
    complete: bool
    number: Ints

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def visited(self) -> Ints:
        """[D] positions of the nodes with a decision, in the order of decisions."""
        found = np.flatnonzero(self.decision >= 0)
        ordered: Ints = found[np.argsort(self.decision[found])]
        return ordered

    def save(self, path: Path) -> None:
        """Write one JSON object; infinities as "inf" and "-inf", NaN as null."""
        rows: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            rows[field.name] = _plain(value) if isinstance(value, np.ndarray) else value
        path.write_text(json.dumps(rows), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> SearchTree:
        """Read what `save` wrote.

        Raises:
            DataError: if a field is missing or not of its kind; it is named.
        """
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise DataError(f"{path} is no recorded tree: {error}") from None
        kinds = {"bound": np.float64, "open_bound": np.float64, "branch_value": np.float64}
        found: dict[str, object] = {}
        for field in fields(cls):
            if field.name not in rows:
                raise DataError(f"{path} has no field {field.name!r}")
            value = rows[field.name]
            if field.name == "complete":
                found[field.name] = bool(value)
            elif field.name == "names":
                found[field.name] = tuple(map(str, value))
            elif field.name in kinds:
                found[field.name] = np.array([_number(x) for x in value])
            else:
                kind = np.bool_ if field.name == "closed" else np.int64
                found[field.name] = np.array(value, dtype=kind)
        return cls(**found)  # type: ignore[arg-type]


def _plain(values: NDArray[np.generic]) -> list[object]:
    if values.dtype.kind != "f":
        return list(values.tolist())
    return [x if np.isfinite(x) else None if np.isnan(x) else str(x) for x in values.tolist()]


def _number(value: object) -> float:
    return float("nan") if value is None else float(value)  # type: ignore[arg-type]
