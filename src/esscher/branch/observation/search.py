"""Features of the search tree around the focus node."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TREE_LIMIT", "TreeReader"]

TREE_LIMIT = 10.0
"""Tree features are clipped to [-TREE_LIMIT, TREE_LIMIT]."""

_ZERO = 1e-9


class TreeReader:
    """Reads `TREE_FEATURES`. Remembers the bounds at the first node of the solve."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def begin(self, model: Any) -> None:
        """A solve begins: the first bounds are those of the next `read`."""
        del model
        self._first = None

    def read(self, model: Any) -> NDArray[np.float32]:
        """[24] float32; the formulae are in `esscher.branch.observation.base`."""
        dual, primal = model.getLowerbound(), _upper_bound(model)
        if self._first is None:
            self._first = dual, primal
        first_dual, first_primal = self._first
        node = model.getCurrentNode()
        changes = node.getNDomchg()
        nodes = model.getNNodes()
        bound = node.getLowerbound()
        values = [
            _ratio(abs(first_dual - dual), abs(first_dual)),
            _ratio(abs(first_primal - primal), abs(first_primal)),
            _ratio(abs(primal - dual), abs(first_primal)),
            _ratio(abs(primal - dual), abs(first_dual)),
            model.getGap(),
            _ratio(model.getNLeaves(), nodes),
            _ratio(model.getNFeasibleLeaves(), nodes),
            _ratio(model.getNInfeasibleLeaves(), nodes),
            _ratio(nodes, model.getNLPIterations()),
            _ratio(model.getNSiblings(), nodes),
            *_best(model, node),
            _ratio(node.getDepth(), nodes),
            _ratio(first_dual, bound),
            _ratio(dual, bound),
            *(_ratio(count, sum(changes)) for count in changes),
            _ratio(node.getNParentBranchings(), nodes),
            *_sibling(model, first_dual, dual, bound),
        ]
        features: NDArray[np.float32] = np.array(values).clip(-TREE_LIMIT, TREE_LIMIT).astype("f4")
        return features


def _ratio(above: float, below: float) -> float:
    """Quotient; 0 for 0 / 0, and the limit with the sign of `above` for x / 0."""
    if abs(below) > _ZERO:
        return above / below
    if abs(above) > _ZERO:
        return math.copysign(TREE_LIMIT, above)
    return 0.0


def _upper_bound(model: Any) -> float:
    """Objective of the best solution in the transformed problem; PySCIPOpt 6.0 has no getter."""
    if model.getNSols() == 0:
        return float(model.infinity())
    return float(model.getSolObjVal(model.getBestSol(), original=False))


def _number(node: Any) -> int:
    return 0 if node is None else int(node.getNumber())


def _best(model: Any, node: Any) -> list[float]:
    best = _number(model.getBestNode())
    return [float(best > 0 and _number(other) == best) for other in (node, node.getParent())]


def _sibling(model: Any, first_dual: float, dual: float, bound: float) -> list[float]:
    sibling = model.getBestSibling()
    if sibling is None:
        return [1.0, 0.0, 0.0, 0.0, 0.0]
    lower = sibling.getLowerbound()
    is_best = _number(model.getBestNode()) == _number(sibling)
    return [
        0.0,
        float(is_best),
        _ratio(first_dual, lower),
        _ratio(dual, lower),
        _ratio(lower, bound),
    ]
