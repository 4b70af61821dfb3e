"""Sequential search with inspection costs, where a box may also be taken unseen.

from esscher.pandora import Box, PandoraInstance, solve

a, b = Box([0, 2], [0.5, 0.5], cost=0.0, name="A"), Box([0, 10], [0.8, 0.2], cost=1.0, name="B")
found = solve(PandoraInstance([a, b]))
found.value, found.policy.next_action(opened={"A": 2.0})
"""

from __future__ import annotations

import importlib
from typing import Any

from esscher.pandora.simulate import simulate
from esscher.pandora.solve import solve
from esscher.pandora.verify import verify

__all__ = [
    "BestOfN",
    "Box",
    "Claim",
    "Open",
    "PandoraInstance",
    "Result",
    "Take",
    "TwoPhasePolicy",
    "Verdict",
    "backup_value",
    "reservation_value",
    "simulate",
    "solve",
    "upper_bound",
    "verify",
    "weitzman_value",
]

_PLACES = {
    "BestOfN": "best_of_n",
    "Box": "box",
    "Claim": "policy",
    "Open": "policy",
    "PandoraInstance": "instance",
    "Result": "result",
    "Take": "policy",
    "TwoPhasePolicy": "policy",
    "Verdict": "verify",
    "backup_value": "reservation",
    "reservation_value": "reservation",
    "upper_bound": "bounds",
    "weitzman_value": "weitzman",
}
"""Name to module. What bears its module's name is imported at once: the module would hide it."""


def __getattr__(name: str) -> Any:
    """Only what is used is loaded."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value
