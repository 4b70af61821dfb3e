"""Records the search tree while SCIP solves, from its events. Import it where SCIP is at hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from esscher.branch.tree import Fate, SearchTree
from esscher.kit.require import require

__all__ = ["Recorder"]

scip: Any = require("pyscipopt", "milp")
_EVENT = scip.SCIP_EVENTTYPE
_EVENTS = (
    _EVENT.NODEFOCUSED, _EVENT.NODEBRANCHED, _EVENT.NODEINFEASIBLE, _EVENT.NODEFEASIBLE,
    _EVENT.NODEDELETE,
)  # fmt: skip
_OBJECTIVE_LIMIT = scip.SCIP_LPSOLSTAT.OBJLIMIT


class Recorder(scip.Eventhdlr):  # type: ignore[misc]
    """Notes every node's parent, bounds, branching and fate as plain numbers.

    Nodes are known by number, since SCIP frees them; without restarts numbers are unique.

    Attributes:
        last_closed: whether the decision before the present one left no child in the tree.
        error: what went wrong in a callback.
    """

    def __init__(self) -> None:
        self._place: dict[int, int] = {}
        self._rows: list[list[Any]] = []
        self._last: int | None = None
        self._children: list[int] = []
        self._closed: set[int] = set()
        self._names: dict[int, int] = {}
        self._labels: tuple[str, ...] = ()
        self.last_closed = False
        self.error: BaseException | None = None

    def raise_error(self) -> None:
        """Raise what went wrong in a callback, if anything."""
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error

    def eventinit(self) -> None:
        """Called by SCIP when solving begins."""
        for kind in _EVENTS:
            self.model.catchEvent(kind, self)

    def eventexit(self) -> None:
        """Called by SCIP when it frees the problem."""
        self.release()

    def release(self) -> None:
        """Hear no more events, and let go of the model; see `Brancher.release`."""
        if self.model is not None:
            for kind in _EVENTS:
                self.model.dropEvent(kind, self)
        self.model: Any = None

    def eventexec(self, event: Any) -> None:
        """Called by SCIP at every event."""
        try:
            self._note(event.getType(), event.getNode())
        except Exception as error:
            self.error = error
            self.model.interruptSolve()

    def visited(self, node: Any, decision: int, bound: float) -> None:
        """The brancher has control at a node; its decision, of this number, follows."""
        self.settle()
        place = self._known(node)
        self._rows[place][_BOUND] = bound
        self._rows[place][_DECISION] = decision
        self._last = place

    def branched(self, children: list[tuple[Any, Any, int, float]]) -> None:
        """Children of the node last visited: (node, variable, direction, new bound)."""
        assert self._last is not None
        self._children = []
        for node, variable, direction, value in children:
            self._children.append(len(self._rows))
            self._add(node, self._last, self._position(variable), direction, value)

    def tree(self, *, complete: bool) -> SearchTree:
        """The record, once solving has ended.

        Args:
            complete: whether it ended by itself; nodes left over are then cut off, else open.
        """
        left = Fate.CUTOFF if complete else Fate.OPEN
        for row in self._rows:
            row[_FATE] = left if row[_FATE] is None else row[_FATE]
        self.settle()
        columns = list(zip(*self._rows, strict=True)) or [()] * _WIDTH
        whole = [np.array(columns[k], dtype=np.int64) for k in range(_BOUND)]
        parent, variable, direction, depth, decision, fate, number = whole
        bound, open_bound, value = (np.array(columns[k]) for k in range(_BOUND, _WIDTH))
        closed = np.zeros(len(self._rows), dtype=bool)
        closed[list(self._closed)] = True
        return SearchTree(
            parent, bound, open_bound, fate, variable, direction, value, depth, decision, closed,
            self._labels, complete, number,
        )  # fmt: skip

    def _note(self, kind: int, node: Any) -> None:
        number = node.getNumber()
        if kind == _EVENT.NODEFOCUSED:
            self._known(node)
            return
        place = self._place.get(number)
        if place is None:
            return
        row = self._rows[place]
        if kind == _EVENT.NODEBRANCHED:
            row[_FATE] = Fate.BRANCHED
            if row[_DECISION] < 0:
                row[_BOUND] = node.getLowerbound()
                self._others(place)
        elif kind == _EVENT.NODEFEASIBLE:
            row[_FATE], row[_BOUND] = Fate.INTEGRAL, node.getLowerbound()
        elif kind == _EVENT.NODEINFEASIBLE:
            limit = self.model.getLPSolstat() == _OBJECTIVE_LIMIT
            row[_FATE], row[_BOUND] = Fate.CUTOFF if limit else Fate.INFEASIBLE, math.inf
        elif row[_FATE] is None:
            row[_FATE] = Fate.CUTOFF

    def _known(self, node: Any) -> int:
        """Position of a node, which is added where nobody announced it: the root."""
        number = node.getNumber()
        if number not in self._place:
            parent = node.getParent()
            above = -1 if parent is None else self._place[parent.getNumber()]
            self._add(node, above, -1, 0, math.nan)
        return self._place[number]

    def _others(self, place: int) -> None:
        """Children that a rule of SCIP's own made."""
        for child in self.model.getOpenNodes()[1]:
            branchings = child.getParentBranchings()
            if child.getNumber() in self._place or branchings is None:
                continue
            variables, bounds, kinds = branchings
            self._add(child, place, self._position(variables[0]), -1 if kinds[0] else 1, bounds[0])

    def _add(self, node: Any, parent: int, variable: int, direction: int, value: float) -> None:
        lower = node.getLowerbound()
        lower = -math.inf if self.model.isInfinity(-lower) else lower
        self._place[node.getNumber()] = len(self._rows)
        self._rows.append(
            [parent, variable, direction, node.getDepth(), -1, None, node.getNumber(), lower, lower,
             value]
        )  # fmt: skip

    def _position(self, variable: Any) -> int:
        if not self._names:
            ordered = self.model.getVars(transformed=True)
            self._names = {v.ptr(): i for i, v in enumerate(ordered)}
            self._labels = tuple(v.name.removeprefix("t_") for v in ordered)
        return self._names[variable.ptr()]

    def settle(self) -> None:
        """Control is back: note whether the last decision left no child in the tree."""
        if self._last is None:
            return
        fates = [self._rows[child][_FATE] for child in self._children]
        self.last_closed = not any(f in (None, Fate.OPEN, Fate.BRANCHED) for f in fates)
        if self.last_closed:
            self._closed.add(self._last)
        self._last = None


_DECISION, _FATE, _BOUND, _WIDTH = 4, 5, 7, 10
