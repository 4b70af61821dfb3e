"""One solve with its tree recorded, as commands tell and draw it."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import numpy as np

from esscher.branch.focus import Policy
from esscher.branch.policies import ScipRule
from esscher.branch.recorder import Recorder
from esscher.branch.setup import Setup, solve_with
from esscher.branch.trajectories import Select, trajectories
from esscher.branch.tree import Fate, SearchTree

__all__ = ["paths_of", "record"]


def record(
    model: Any, policy: Policy | ScipRule, setup: Setup, seed: int
) -> tuple[SearchTree, dict[str, Any]]:
    """The tree of a solve, and its status, sizes, and nodes by fate.

    Raises:
        Exception: as of `solve_with`.
    """
    found = solve_with(model, policy, setup, seed, Recorder())
    tree = found.tree
    assert tree is not None
    fates = Counter(tree.fate.tolist())
    return tree, {
        "status": found.status,
        "objective": found.objective,
        "nodes": found.nodes,
        "decisions": found.decisions,
        "depth": int(tree.depth.max()) if len(tree) else 0,
        "fates": {fate.name.lower(): fates[fate] for fate in Fate},
    }


def paths_of(
    tree: SearchTree, select: str = "max_leaf_lp_gain", seed: int = 0
) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """The trajectories a tree is cut into; none where SCIP's own rule branched.

    Raises:
        ConfigError: if there is no such rule.
    """
    return trajectories(tree, cast(Select, select), rng=np.random.default_rng(seed))
