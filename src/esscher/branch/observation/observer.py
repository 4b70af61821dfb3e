"""Observers: the LP's graph by one reader or the other, and the tree around the node."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from esscher.branch.focus import Focus
from esscher.branch.observation.base import Observation
from esscher.branch.observation.fast import FastReader
from esscher.branch.observation.library import address_of
from esscher.branch.observation.reference import LpGraph, ReferenceReader
from esscher.branch.observation.search import TreeReader
from esscher.errors import ConfigError, DataError

__all__ = ["Features", "Implementation", "NodeObserver", "make_observer"]

Features = Literal["gasse19", "retro43"]
Implementation = Literal["auto", "fast", "reference"]

TOLERANCE = 1e-6
_LP_OPTIMAL = 1


class _Reader(Protocol):
    def begin(self, model: Any) -> None: ...

    def read(self, model: Any) -> LpGraph: ...

    def positions(self, variables: Sequence[Any]) -> NDArray[np.int32]: ...


@dataclass
class _Check:
    """Whether the fast reader was compared with the reference, and why it is not in use."""

    done: bool = False
    reason: str = ""


@functools.cache
def _check_of_process() -> _Check:
    """Of SCIP's library, which stays the same."""
    return _Check()


class NodeObserver:
    """Observes the nodes of one solve after another.

    Args:
        reader: of rows and columns.
        check: what is known of the fast one, where it is to be tried; None where nothing is tried.

    Attributes:
        features: "gasse19" for rows and columns alone, "retro43" with the tree.
    """

    def __init__(self, features: Features, reader: _Reader, check: _Check | None = None) -> None:
        self.features = features
        self._reader = reader
        self._check = check
        self._tree = TreeReader()
        self._scip = 0

    @property
    def implementation(self) -> str:
        """What reads the LP: "fast" or "reference"."""
        return "reference" if isinstance(self._reader, ReferenceReader) else "fast"

    @property
    def reason(self) -> str:
        """Why the fast one is not in use though it was to be tried, else ""."""
        return "" if self._check is None else self._check.reason

    def begin(self, model: Any) -> None:
        """A solve begins; what was remembered of the last one is dropped."""
        self._scip = address_of(model)
        self._reader.begin(model)
        self._tree.begin(model)

    def observe(self, focus: Focus) -> Observation:
        """The focus node as a graph.

        Raises:
            DataError: if `begin` was not called with this model, the node's LP is not solved, or a
                candidate is not in it.
        """
        model = focus.model
        if address_of(model) != self._scip:
            raise DataError("observe() wants begin(model) first, with the model of the focus node")
        if model.getLPSolstat() != _LP_OPTIMAL:
            raise DataError(
                f"the LP of node {focus.node} is not solved to optimality: there is nothing to see"
            )
        graph = self._read(focus)
        tree = self._tree.read(model) if self.features == "retro43" else np.zeros(0, np.float32)
        return Observation(
            graph.rows,
            graph.columns,
            tree,
            graph.edge_row,
            graph.edge_column,
            graph.edge_value,
            self._positions(focus),
        )

    def _read(self, focus: Focus) -> LpGraph:
        check = self._check
        if check is not None and not check.done:
            check.done, check.reason = True, self._compared(focus)
        if check is not None and check.reason and self.implementation == "fast":
            self._reader = ReferenceReader()
        return self._reader.read(focus.model)

    def _compared(self, focus: Focus) -> str:
        """What the reader has otherwise than the reference, or ""."""
        reference = ReferenceReader()
        wanted, places = reference.read(focus.model), reference.positions(focus.variables)
        try:
            reason = _difference(self._reader.read(focus.model), wanted)
            if not reason and not np.array_equal(self._reader.positions(focus.variables), places):
                reason = "candidates differ from the reference"
        except Exception as error:  # as in `make_observer`
            reason = str(error)
        return reason

    def _positions(self, focus: Focus) -> NDArray[np.int32]:
        found = self._reader.positions(focus.variables)
        if np.any(found < 0):
            name = focus.variables[int(np.argmin(found))].name
            raise DataError(f"candidate {name} is not a column of the LP of node {focus.node}")
        return found


def make_observer(
    features: Features = "gasse19", implementation: Implementation = "auto"
) -> NodeObserver:
    """An observer.

    Args:
        features: "gasse19", the features of rows and columns; "retro43", those of the tree as well.
        implementation: "reference" reads value by value through PySCIPOpt; "fast" reads SCIP's own
            getters by compiled loops; "auto" is fast where that is possible and agrees with the
            reference at the first node that is observed in a process, and the reference elsewhere.

    Raises:
        ConfigError: if a name is unknown; with "fast", if the SCIP library is not known.
        MissingExtra: with "fast", if pyscipopt, llvmlite or numba is not installed.
    """
    if features not in ("gasse19", "retro43"):
        raise ConfigError(f'features must be "gasse19" or "retro43", got {features!r}')
    if implementation == "reference":
        return NodeObserver(features, ReferenceReader())
    if implementation == "fast":
        return NodeObserver(features, FastReader())
    if implementation != "auto":
        raise ConfigError(
            f'implementation must be "auto", "fast" or "reference", got {implementation!r}'
        )
    check = _check_of_process()
    if not check.reason:
        try:
            return NodeObserver(features, FastReader(), check)
        except Exception as error:  # whatever keeps the fast one from working, the other one does
            return NodeObserver(features, ReferenceReader(), _Check(True, str(error)))
    return NodeObserver(features, ReferenceReader(), check)


def _difference(found: LpGraph, wanted: LpGraph) -> str:
    """Which field differs, or ""."""
    for name, one, other in zip(LpGraph._fields, found, wanted, strict=True):
        if one.shape != other.shape:
            return f"{name} has shape {one.shape}, the reference {other.shape}"
        if not np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE):
            return f"{name} differs from the reference"
    return ""
