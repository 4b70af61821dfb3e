"""A policy as SCIP's branching rule. Import it where SCIP is at hand."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from esscher.branch.focus import Focus, Policy
from esscher.branch.recorder import Recorder
from esscher.errors import ConfigError
from esscher.kit.require import require

__all__ = ["Brancher", "Limits"]

scip: Any = require("pyscipopt", "milp")
_RESULT = scip.SCIP_RESULT


@dataclass(frozen=True)
class Limits:
    """Where a policy hands over to SCIP's rule, or the solve ends."""

    max_depth: float = math.inf
    """Deepest node at which the policy is asked; the root is at 0."""
    max_decisions: float = math.inf
    """Decisions after which it is asked no more."""
    max_seconds: float = math.inf
    """Seconds of its own work after which it is asked no more."""
    stop: bool = False
    """End the solve there instead of handing over, as training does."""

    def __post_init__(self) -> None:
        for name in ("max_depth", "max_decisions", "max_seconds"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must be >= 0, got {getattr(self, name)}")


class Brancher(scip.Branchrule):  # type: ignore[misc]
    """Asks a policy where to branch.

    SCIP drops what a callback raises and ends with an error of its own. So an exception is kept in
    `error`, and the solve interrupted; who started it raises it again.

    Attributes:
        decisions: taken in this solve.
        seconds: the policy's own work.
        error: what the policy raised.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        limits: Limits = Limits(),
        recorder: Recorder | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.policy, self.limits, self.recorder = policy, limits, recorder
        self._clock = clock
        self.decisions = 0
        self.seconds = 0.0
        self.error: BaseException | None = None
        self.stopped = False

    def raise_error(self) -> None:
        """Raise what the policy raised, if anything; for after `model.optimize()`.

        It is let go of: its traceback holds the model, which holds this callback.
        """
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error

    def release(self) -> None:
        """Let go of a model whose solve has ended, so that it is freed when its user drops it.

        A model and its callbacks hold each other, and would wait for a garbage collection.
        """
        self.model: Any = None

    def branchinitsol(self) -> None:
        """Called by SCIP when branch and bound begins."""
        self.decisions, self.seconds, self.stopped = 0, 0.0, False

    def branchexeclp(self, allowaddcons: bool) -> dict[str, Any]:
        """Called by SCIP at a node whose LP solution is fractional."""
        del allowaddcons
        if self.error is not None or self.stopped:
            return {"result": _RESULT.DIDNOTRUN}
        begin = self._clock()
        try:
            return {"result": self._branch()}
        except BaseException as error:
            self.error = error
            self.model.interruptSolve()
            return {"result": _RESULT.DIDNOTRUN}
        finally:
            self.seconds += self._clock() - begin

    def branchexecps(self, allowaddcons: bool) -> dict[str, Any]:
        """Called by SCIP at a node without an LP solution: left to its own rules."""
        del allowaddcons
        return {"result": _RESULT.DIDNOTRUN}

    branchexecext = branchexecps

    def _branch(self) -> Any:
        model, limits = self.model, self.limits
        node = model.getCurrentNode()
        depth = node.getDepth()
        if (
            depth > limits.max_depth
            or self.decisions >= limits.max_decisions
            or self.seconds >= limits.max_seconds
        ):
            return self._hand_over()
        variables, values, fractions, count, *_ = model.getLPBranchCands()
        if count == 0:
            return _RESULT.DIDNOTRUN
        if self.decisions == 0:
            self.policy.begin(model)
        focus = Focus(
            model,
            variables[:count],
            np.array(values[:count]),
            np.array(fractions[:count]),
            node.getNumber(),
            depth,
            self.decisions,
        )
        if self.recorder is not None:
            self.recorder.visited(node, self.decisions, node.getLowerbound())
        self._create(focus, _checked(self.policy.choose(focus), count))
        return _RESULT.BRANCHED

    def _hand_over(self) -> Any:
        if self.recorder is not None:
            self.recorder.settle()
        if self.limits.stop:
            self.stopped = True
            self.model.interruptSolve()
        return _RESULT.DIDNOTRUN

    def _create(self, focus: Focus, choice: int) -> None:
        variable, value = focus.variables[choice], float(focus.values[choice])
        down, _, up = self.model.branchVar(variable)
        self.decisions += 1
        if self.recorder is not None:
            self.recorder.branched(
                [(down, variable, -1, math.floor(value)), (up, variable, 1, math.ceil(value))]
            )


def _checked(choice: Any, count: int) -> int:
    """Branching on a variable with a whole value would end the whole solve in SCIP."""
    if isinstance(choice, (bool, np.bool_)) or not isinstance(choice, (int, np.integer)):
        raise ConfigError(f"a policy answers with a position among {count}, got {choice!r}")
    if not 0 <= choice < count:
        raise ConfigError(f"a policy chose position {choice} among {count} candidates")
    return int(choice)
