"""What a branching policy is shown, and what it has to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Focus", "Policy"]


@dataclass(frozen=True)
class Focus:
    """The node to branch at. Valid during the call only: SCIP's objects die with the node.

    Attributes:
        model: the `pyscipopt.Model`, in its solving stage.
        variables: [K] candidates: variables whose value in the node's LP is fractional, K >= 1.
        values: [K] LP values of them.
        fractions: [K] value minus its floor, in (0, 1).
        node: SCIP's number of the node; 1 is the root.
        depth: of the node, 0 at the root.
        step: decisions taken before this one in this solve.
    """

    model: Any
    variables: Sequence[Any]
    values: NDArray[np.float64]
    fractions: NDArray[np.float64]
    node: int
    depth: int
    step: int


class Policy(Protocol):
    """Chooses the variable to branch on."""

    def begin(self, model: Any) -> None:
        """A solve begins; called before the first choice, with the model in its solving stage."""
        ...

    def choose(self, focus: Focus) -> int:
        """Position among `focus.variables`, in 0 .. K-1."""
        ...
