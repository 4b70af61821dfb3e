"""Offline reinforcement learning from the logs of several policies at once.

from esscher.offline import MixedDataset, fit

result = fit("td3_rkl", MixedDataset.load(path), seed=0)
action = result.policy(obs)
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "CONFIGURATIONS",
    "BehaviourDensity",
    "MixedDataset",
    "OfflineConfig",
    "TD3Offline",
    "configuration",
    "fit",
]

_PLACES = {
    "BehaviourDensity": "densities.base",
    "CONFIGURATIONS": "config",
    "MixedDataset": "data",
    "OfflineConfig": "config",
    "TD3Offline": "learners",
    "configuration": "config",
    "fit": "training",
}


def __getattr__(name: str) -> Any:
    """Names are loaded where they are used, so that help needs no torch."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
