"""Where a data set leaves room and where it does not, and how far a policy is outside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from esscher.kit.rl.policy import ActorPolicy
from esscher.kit.runs.seeds import Streams
from esscher.offline.data import MixedDataset
from esscher.offline.densities.base import CHUNK, BehaviourDensity
from esscher.offline.densities.mixture import MixtureLaw
from esscher.offline.prepare import Prepared

__all__ = ["coverage"]

ROWS = 5000
TAIL = 0.01
"""An action is out of distribution if its density is below that of this share of the data's."""


def coverage(
    dataset: MixedDataset,
    data: Prepared,
    density: BehaviourDensity,
    *,
    seed: int,
    policy: ActorPolicy | None = None,
) -> dict[str, Any]:
    """What the density says of the data, by policy, on at most 5000 rows.

    Returns:
        "entropy" per action dimension, nats, as quantiles; "modes", share of states with 1, 2, …
        modes where the density has components; "policies" with transitions, returns and mean
        entropy of each; "ood_rate" of the policy's actions, where there is one.
    """
    streams = Streams(seed)
    n = len(data.replay)
    pick = torch.from_numpy(streams.numpy("rows").permutation(n)[:ROWS])
    batch = data.replay.at(pick)
    entropy = density.entropy(batch.obs, 16, streams.torch("entropy")) / batch.action.shape[1]
    found: dict[str, Any] = {
        "entropy": {
            f"{q:.0%}": float(torch.quantile(entropy, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)
        }
    }
    if isinstance(density, MixtureLaw):
        modes = torch.cat([density.modes(part) for part in torch.split(batch.obs, CHUNK)])
        share = torch.bincount(modes).double() / len(modes)
        found["modes"] = {str(k): float(s) for k, s in enumerate(share) if s > 0}
    owner = torch.from_numpy(dataset.transitions.policy_id)[pick]
    found["policies"] = [
        row | {"entropy": float(entropy[owner == i].mean()) if bool((owner == i).any()) else None}
        for i, row in enumerate(dataset.provenance())
    ]
    if policy is not None:
        rows = dataset.transitions.obs[pick.numpy()]
        action = data.action_map.to_unit(torch.from_numpy(np.array(policy(rows))))
        own, known = (
            density.log_prob(batch.obs, each) for each in (action.clamp(-1, 1), batch.action)
        )
        found["ood_rate"] = float((own < torch.quantile(known, TAIL)).double().mean())
    return found
