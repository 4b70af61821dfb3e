"""Sequential search with inspection costs, where a box may also be taken unseen.

from esscher.pandora import Box, PandoraInstance, solve

a, b = Box([0, 2], [0.5, 0.5], cost=0.0, name="A"), Box([0, 10], [0.8, 0.2], cost=1.0, name="B")
found = solve(PandoraInstance([a, b]))
found.value, found.policy.next_action(opened={"A": 2.0})
"""

from __future__ import annotations

from esscher.kit.lazy import lazy_names
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

# What bears its module's name is imported at once: the module would hide it.
__getattr__ = lazy_names(
    __name__,
    {
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
    },
)
