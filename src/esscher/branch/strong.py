"""Strong branching: solve both child LPs of every candidate, and keep nothing of it but scores."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.branch.focus import Focus
from esscher.errors import NumericsError

__all__ = ["StrongBranching", "StrongScores", "strong_scores"]

_ITERATIONS = 2**31 - 1


class StrongScores(NamedTuple):
    """What strong branching found.

    Attributes:
        score: [K] SCIP's product of both gains.
        down: [K] gain of the dual bound in the child below; of an infeasible one up to the cutoff.
        up: [K] the same above.
    """

    score: NDArray[np.float64]
    down: NDArray[np.float64]
    up: NDArray[np.float64]


def strong_scores(focus: Focus) -> StrongScores:
    """Scores of all candidates; SCIP's state stays as it was.

    Score: max(gain below, 1e-6) · max(gain above, 1e-6), by SCIP's own function. Domain reductions
    that SCIP's rule would make on the way are not made, so that trees are larger than its.

    Raises:
        NumericsError: if an LP could not be solved, such as at a time limit.
    """
    model = focus.model
    base = model.getLPObjVal()
    gains = np.empty((2, len(focus.variables)))
    model.startStrongbranch()
    try:
        for k, variable in enumerate(focus.variables):
            found = model.getVarStrongbranch(variable, _ITERATIONS, idempotent=True)
            down, up, _, _, down_infeasible, up_infeasible, _, _, failed = found
            if failed:
                raise NumericsError(
                    f"an LP of strong branching on {variable.name} could not be solved; a time "
                    "limit ends it so"
                )
            limit = model.getCutoffbound()
            gains[0, k] = max((limit if down_infeasible else down) - base, 0.0)
            gains[1, k] = max((limit if up_infeasible else up) - base, 0.0)
    finally:
        model.endStrongbranch()
    score = [
        model.getBranchScoreMultiple(variable, [float(below), float(above)])
        for variable, below, above in zip(focus.variables, *gains, strict=True)
    ]
    return StrongScores(np.array(score), gains[0], gains[1])


class StrongBranching:
    """The candidate with the best strong branching score; the first of equals."""

    def begin(self, model: Any) -> None:
        """Nothing to prepare."""

    def choose(self, focus: Focus) -> int:
        """Position among the candidates."""
        if len(focus.variables) == 1:
            return 0
        return int(np.argmax(strong_scores(focus).score))
