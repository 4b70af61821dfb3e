"""Offline reinforcement learning from the logs of several policies at once.

from esscher.offline import MixedDataset, fit

result = fit("td3_rkl", MixedDataset.load(path), seed=0)
action = result.policy(obs)
"""

from __future__ import annotations

from esscher.kit.lazy import lazy_names

__all__ = [
    "CONFIGURATIONS",
    "BehaviourDensity",
    "MixedDataset",
    "OfflineConfig",
    "TD3Offline",
    "configuration",
    "fit",
]

__getattr__ = lazy_names(
    __name__,
    {
        "BehaviourDensity": "densities.base",
        "CONFIGURATIONS": "config",
        "MixedDataset": "data",
        "OfflineConfig": "config",
        "TD3Offline": "learners",
        "configuration": "config",
        "fit": "training",
    },
)
