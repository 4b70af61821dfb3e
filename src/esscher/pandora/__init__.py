"""Sequential search with inspection costs, where a box may also be taken unseen.

from esscher.pandora import Box, PandoraInstance, solve

found = solve(PandoraInstance([Box([0, 2], [0.5, 0.5], 0.0, "A"), Box([0, 10], [0.8, 0.2], 1.0, "B")]))
found.value, found.policy.next_action(opened={"A": 2.0})
"""

from __future__ import annotations

import importlib
from typing import Any

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
    "families",
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
    "backup_value": "indices",
    "reservation_value": "indices",
    "simulate": "simulate",
    "solve": "solve",
    "upper_bound": "bounds",
    "verify": "verify",
    "weitzman_value": "weitzman",
}
"""Name to module. `solve`, `simulate` and `verify` are functions of modules that bear their name."""


def __getattr__(name: str) -> Any:
    """Only what is used is loaded."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
