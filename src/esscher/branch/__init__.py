"""Learning to branch in integer programming, by trajectories cut from finished search trees.

from esscher.branch import configuration, fit, include_policy

result = fit(configuration("retro", budget__minutes=10))
include_policy(model, result.policy(), max_depth=10)
model.optimize()
"""

from __future__ import annotations

from esscher.kit.lazy import lazy_names

__all__ = [
    "BranchingEnv",
    "Milp",
    "Recorder",
    "ScipRule",
    "SearchTree",
    "configuration",
    "fit",
    "include_policy",
    "load_policy",
    "make_observer",
    "policy_named",
]

__getattr__ = lazy_names(
    __name__,
    {
        "BranchingEnv": "env",
        "Milp": "milp",
        "Recorder": "recorder",
        "ScipRule": "policies",
        "SearchTree": "tree",
        "configuration": "config",
        "fit": "training",
        "include_policy": "deploy",
        "load_policy": "graph_policy",
        "make_observer": "observation.observer",
        "policy_named": "named",
    },
)
