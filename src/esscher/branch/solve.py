"""Solve a model with a branching policy, and say how it went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from esscher.branch.callback import Brancher, Limits
from esscher.branch.focus import Policy
from esscher.branch.policies import ScipRule
from esscher.branch.recorder import Recorder
from esscher.branch.tree import SearchTree
from esscher.errors import ConfigError, DataError
from esscher.kit.require import require

__all__ = ["UNLIMITED", "SolveResult", "attach", "prefer_rule", "solve"]

scip: Any = require("pyscipopt", "milp")
PRIORITY = 1_000_000
UNLIMITED = Limits()
_ENDED = ("optimal", "infeasible", "unbounded", "inforunbd")


@dataclass(frozen=True)
class SolveResult:
    """How a solve went.

    Attributes:
        status: SCIP's: optimal, infeasible, unbounded, timelimit, nodelimit, userinterrupt, …
        objective: of the best solution, in the model's own sense; None without one.
        nodes: of the tree, with all that were pruned.
        decisions: taken by the policy.
        lp_iterations: of the simplex method.
        seconds: of SCIP's clock.
        policy_seconds: of them in the policy.
        tree: the record, where one was wanted.
    """

    status: str
    objective: float | None
    nodes: int
    decisions: int
    lp_iterations: int
    seconds: float
    policy_seconds: float
    tree: SearchTree | None = None


def solve(
    model: Any,
    policy: Policy | ScipRule,
    *,
    recorder: Recorder | None = None,
    limits: Limits = UNLIMITED,
    fallback: str = "relpscost",
) -> SolveResult:
    """Solve a model with a policy in charge of branching.

    Args:
        model: a `pyscipopt.Model` with its parameters set, not yet being solved.
        policy: chooses variables; a `ScipRule` is one of SCIP's own.
        recorder: keeps the search tree; new for every solve.
        limits: where the policy hands over to the fallback, or the solve ends.
        fallback: SCIP's rule for nodes the policy is not asked at.

    Raises:
        ConfigError: if the rule is unknown or the model was solved before, or the policy answers
            with no candidate.
        DataError: if SCIP finds an error in the problem.
        KeyboardInterrupt: if the user interrupted it.
        Exception: what the policy raises.
    """
    if model.getStage() > scip.SCIP_STAGE.PROBLEM:
        raise ConfigError("this model was solved before; make it anew, or call its freeTransform")
    brancher = attach(model, policy, limits=limits, fallback=fallback, recorder=recorder)
    try:
        return _solved(model, brancher, recorder)
    finally:
        for part in (brancher, recorder):
            if part is not None:
                part.release()


def attach(
    model: Any,
    policy: Policy | ScipRule,
    *,
    limits: Limits = UNLIMITED,
    fallback: str = "relpscost",
    recorder: Recorder | None = None,
) -> Brancher | None:
    """Put a policy, and the rule to fall back on, in charge of a model's branching.

    For models that others solve: after `model.optimize()` call `raise_error` of what is returned,
    since SCIP does not pass on what a callback raises.

    Returns:
        The callback, or None for one of SCIP's own rules.

    Raises:
        ConfigError: if SCIP has no such rule.
    """
    brancher = None
    prefer_rule(model, policy.name if isinstance(policy, ScipRule) else fallback)
    if recorder is not None:
        model.includeEventhdlr(recorder, "esscher tree", "records the search tree")
    if not isinstance(policy, ScipRule):
        brancher = Brancher(policy, limits=limits, recorder=recorder)
        model.includeBranchrule(
            brancher, "esscher", "asks a policy", priority=2 * PRIORITY, maxdepth=-1,
            maxbounddist=1.0,
        )  # fmt: skip
    return brancher


def prefer_rule(model: Any, name: str) -> None:
    """Make one of SCIP's rules the first of them.

    Raises:
        ConfigError: if there is none of that name.
    """
    key = f"branching/{name}/priority"
    known = model.getParams()
    if key not in known:
        rules = sorted(
            k.split("/")[1] for k in known if k.endswith("/priority") and k[:4] == "bran"
        )
        raise ConfigError(f"SCIP has no branching rule {name!r}; there are: {rules}")
    model.setParam(key, PRIORITY)


def _solved(model: Any, brancher: Brancher | None, recorder: Recorder | None) -> SolveResult:
    try:
        model.optimize()
    except Exception as error:
        _raise_own(brancher, recorder)
        raise DataError(f"SCIP could not solve {model.getProbName()}: {error}") from error
    _raise_own(brancher, recorder)
    status = str(model.getStatus())
    if status == "userinterrupt" and not (brancher is not None and brancher.stopped):
        raise KeyboardInterrupt
    return SolveResult(
        status,
        float(model.getObjVal()) if model.getNSols() > 0 else None,
        int(model.getNTotalNodes()),
        0 if brancher is None else brancher.decisions,
        int(model.getNLPIterations()),
        float(model.getSolvingTime()),
        0.0 if brancher is None else brancher.seconds,
        None if recorder is None else recorder.tree(complete=status in _ENDED),
    )


def _raise_own(brancher: Brancher | None, recorder: Recorder | None) -> None:
    if brancher is not None:
        brancher.raise_error()
    if recorder is not None:
        recorder.raise_error()
