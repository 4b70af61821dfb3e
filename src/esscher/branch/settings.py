"""Sets of SCIP parameters that the literature on learning to branch uses, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from esscher.errors import ConfigError
from esscher.kit.require import require
from esscher.kit.runs.typed import nearest

__all__ = ["SELECTORS", "SETTINGS", "configure"]

_GASSE: dict[str, Any] = {"separating/maxrounds": 0, "presolving/maxrestarts": 0}
_PLAIN: dict[str, Any] = {
    "separating/maxrounds": 0,
    "separating/maxroundsroot": 0,
    "separating/maxcuts": 0,
    "separating/maxcutsroot": 0,
    "presolving/maxrounds": 0,
    "presolving/maxrestarts": 0,
    "propagating/maxrounds": 0,
    "propagating/maxroundsroot": 0,
    "lp/initalgorithm": "d",
    "lp/resolvealgorithm": "d",
}

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "scip": {},
    "gasse": _GASSE,
    "nocut": _GASSE | {"separating/maxroundsroot": 0},
    "plain": _PLAIN,
    "bare": _PLAIN,
}
"""`gasse`: cuts at the root only, no restarts (Gasse et al. 2019). `nocut`: none at all. `plain`:
no presolving, cuts or propagation, as Parsonson et al. 2022 take for small instances. `bare`: that
without primal heuristics, so that the tree is what branching makes of it. `scip`: its defaults."""

SELECTORS = ("default", "dfs", "bfs", "uct")
"""SCIP's choice of the next node: its default, depth first, best bound first, upper confidence."""
_FIRST, _LAST = 1_073_741_823, -536_870_912
_LONGEST = 1e20


def configure(
    model: Any,
    settings: str = "scip",
    *,
    selector: str = "default",
    seed: int | None = None,
    time_limit: float = math.inf,
    node_limit: int | None = None,
) -> None:
    """Set a model's parameters.

    Args:
        model: a `pyscipopt.Model` that is not being solved.
        settings: a key of `SETTINGS`.
        selector: one of `SELECTORS`.
        seed: of all of SCIP's permutations and shifts; its own if None.
        time_limit: seconds, >= 0.
        node_limit: nodes of all runs, >= 1; none if None.

    Raises:
        ConfigError: if a name or number is not one of these; the nearest name is given.
    """
    _check(settings, selector, time_limit, node_limit)
    parameters = dict(SETTINGS[settings])
    if seed is not None:
        parameters |= {
            "randomization/permutevars": True,
            "randomization/permutationseed": seed % 2**31,
            "randomization/randomseedshift": seed % 2**31,
        }
    if selector != "default":
        parameters |= {f"nodeselection/{selector}/stdpriority": _FIRST}
        if selector == "dfs":
            parameters["nodeselection/restartdfs/stdpriority"] = _LAST
    parameters["limits/time"] = min(time_limit, _LONGEST)
    if node_limit is not None:
        parameters["limits/totalnodes"] = node_limit
    model.setParams(parameters)
    if settings == "bare":
        model.setHeuristics(require("pyscipopt", "milp").SCIP_PARAMSETTING.OFF)


def _check(settings: str, selector: str, time_limit: float, node_limit: int | None) -> None:
    if settings not in SETTINGS:
        raise ConfigError(
            f"no SCIP settings {settings!r}{nearest(settings, list(SETTINGS))}; there are: "
            f"{list(SETTINGS)}"
        )
    if selector not in SELECTORS:
        raise ConfigError(
            f"no node selector {selector!r}{nearest(selector, list(SELECTORS))}; there are: "
            f"{list(SELECTORS)}"
        )
    if not time_limit >= 0:
        raise ConfigError(f"time_limit must be >= 0 seconds, got {time_limit}")
    if node_limit is not None and node_limit < 1:
        raise ConfigError(f"node_limit must be >= 1, got {node_limit}")
