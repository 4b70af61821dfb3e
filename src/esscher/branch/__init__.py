"""Learning to branch in integer programming, by trajectories cut from finished search trees.

from esscher.branch import configuration, fit, include_policy

result = fit(configuration("retro", budget__minutes=10))
include_policy(model, result.policy(), max_depth=10)
model.optimize()
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "BranchingEnv",
    "Milp",
    "Recorder",
    "ScipRule",
    "SearchTree",
    "configuration",
    "evaluate",
    "fit",
    "include_policy",
    "load_policy",
    "make_observer",
    "policy_named",
    "solve",
    "trajectories",
]

_PLACES = {
    "BranchingEnv": "env",
    "Milp": "milp",
    "Recorder": "recorder",
    "ScipRule": "policies",
    "SearchTree": "tree",
    "configuration": "config",
    "evaluate": "evaluate",
    "fit": "training",
    "include_policy": "deploy",
    "load_policy": "graph_policy",
    "make_observer": "observation.observer",
    "policy_named": "named",
    "solve": "solve",
    "trajectories": "trajectories",
}


def __getattr__(name: str) -> Any:
    """Names are loaded where they are used, so that help needs neither torch nor SCIP."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
