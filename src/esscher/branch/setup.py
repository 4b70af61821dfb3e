"""A model set up and solved: the same for every policy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from esscher.branch.callback import Limits
from esscher.branch.focus import Focus, Policy
from esscher.branch.options import ScipOptions
from esscher.branch.policies import ScipRule
from esscher.branch.recorder import Recorder
from esscher.branch.settings import configure
from esscher.branch.solve import UNLIMITED, SolveResult, solve
from esscher.errors import NumericsError

__all__ = ["Setup", "setup_of", "solve_with"]


@dataclass(frozen=True)
class Setup:
    """How SCIP is set, whoever branches."""

    settings: str = "bare"
    """SCIP parameters by name, see `esscher.branch.settings`."""
    selector: str = "default"
    """SCIP's choice of the next node."""
    time_limit: float = math.inf
    """Seconds of a solve."""
    node_limit: int | None = None
    """Nodes of a solve."""
    limits: Limits = UNLIMITED
    """Where the policy hands over to the fallback."""
    fallback: str = "relpscost"
    """SCIP's rule for nodes the policy is not asked at."""


def setup_of(options: ScipOptions) -> Setup:
    """What the flags of a command say."""
    limits = UNLIMITED if options.max_depth is None else Limits(max_depth=options.max_depth)
    return Setup(
        options.settings, options.selector, options.time_limit, options.node_limit, limits,
        options.fallback,
    )  # fmt: skip


def solve_with(
    model: Any,
    policy: Policy | ScipRule,
    setup: Setup,
    seed: int | None = None,
    recorder: Recorder | None = None,
) -> SolveResult:
    """Set a model's parameters and solve it.

    A policy that cannot go on because the time is over, as strong branching's LPs, ends with the
    status "timelimit" like any other.

    Raises:
        Exception: as of `configure` and `solve`.
    """
    configure(
        model, setup.settings, selector=setup.selector, seed=seed, time_limit=setup.time_limit,
        node_limit=setup.node_limit,
    )  # fmt: skip
    counted = policy if isinstance(policy, ScipRule) else _Counted(policy)
    try:
        return solve(
            model, counted, recorder=recorder, limits=setup.limits, fallback=setup.fallback
        )
    except NumericsError:
        if model.getSolvingTime() < setup.time_limit or isinstance(counted, ScipRule):
            raise
    tree = None if recorder is None else recorder.tree(complete=False)
    if tree is not None:  # The node at which no choice came was noted as one with a decision.
        taken = np.where(tree.decision < counted.decisions, tree.decision, -1)
        tree = replace(tree, decision=taken)
    return SolveResult(
        "timelimit",
        float(model.getObjVal()) if model.getNSols() > 0 else None,
        int(model.getNTotalNodes()),
        counted.decisions,
        int(model.getNLPIterations()),
        float(model.getSolvingTime()),
        0.0,
        tree,
    )


class _Counted:
    """A policy, and how many answers it has given."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.decisions = policy, 0

    def begin(self, model: Any) -> None:
        self.policy.begin(model)

    def choose(self, focus: Focus) -> int:
        choice = self.policy.choose(focus)
        self.decisions += 1
        return choice
