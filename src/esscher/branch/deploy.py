"""A policy in somebody's own PySCIPOpt model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from esscher.branch.callback import Brancher, Limits
from esscher.branch.focus import Policy
from esscher.branch.named import policy_named
from esscher.branch.policies import ScipRule
from esscher.branch.solve import attach
from esscher.errors import ConfigError

__all__ = ["include_policy"]


def include_policy(
    model: Any,
    policy: Policy | str | Path,
    *,
    max_depth: float = math.inf,
    max_decisions: float = math.inf,
    max_seconds: float = math.inf,
    fallback: str = "relpscost",
) -> Brancher:
    """Let a policy branch in a model, near the root only if wanted.

    The model's other parameters stay as they are. SCIP does not pass on what a policy raises: it
    ends the solve with status "userinterrupt", and `raise_error` of what is returned raises it.

    Args:
        model: a `pyscipopt.Model` that is not being solved.
        policy: chooses variables; or a name or folder, as of `esscher branch solve --policy`.
        max_depth: deepest node at which it is asked; the root is at 0.
        max_decisions: after which it is asked no more in this solve.
        max_seconds: of its own work after which it is asked no more.
        fallback: SCIP's rule at all other nodes.

    Returns:
        The callback, which counts decisions and seconds.

    Raises:
        ConfigError: if a name or number is not one there is, or the policy is one of SCIP's rules.
    """
    limits = Limits(max_depth, max_decisions, max_seconds)
    chosen = policy_named(str(policy)) if isinstance(policy, (str, Path)) else policy
    if isinstance(chosen, ScipRule):
        raise ConfigError(
            f"{chosen.name} is a rule of SCIP's own; set its parameter branching/{chosen.name}/"
            "priority"
        )
    found = attach(model, chosen, limits=limits, fallback=fallback)
    assert found is not None
    return found
