"""A policy as an environment sees it, with the statistics it was trained under."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from esscher.errors import CheckpointError
from esscher.kit.rl.networks import Actor
from esscher.kit.rl.normalise import ActionMap, Standardiser
from esscher.kit.runs.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["ActorPolicy", "Policy", "load_policy", "save_policy"]

Floats = NDArray[np.float32]


class Policy(Protocol):
    """Acts on a batch of observations."""

    def __call__(self, obs: Floats) -> Floats:
        """Actions [n, m] of the environment for observations [n, d]."""
        ...


class ActorPolicy(nn.Module):
    """An actor between a standardiser and an action map; a `Policy`.

    Args:
        actor: on standardised observations, to unit actions.
        standardiser: of the data it was trained on.
        action_map: of the environment's box.
    """

    def __init__(self, actor: Actor, standardiser: Standardiser, action_map: ActionMap) -> None:
        super().__init__()
        self.actor, self.standardiser, self.action_map = actor, standardiser, action_map

    @torch.no_grad()
    def forward(self, obs: Floats) -> Floats:
        """Actions [n, m] of the environment for observations [n, d]."""
        known = torch.from_numpy(np.ascontiguousarray(obs, dtype=np.float32))
        action: Floats = self.action_map.from_unit(self.actor(self.standardiser(known))).numpy()
        return action


def save_policy(policy: ActorPolicy, folder: Path, step: int = 0) -> Path:
    """Write weights, statistics and action box; see `save_checkpoint` for what can go wrong."""
    weights = [m for m in policy.actor.body if isinstance(m, nn.Linear)]
    sizes = [weights[0].in_features, *(layer.out_features for layer in weights)]
    state: dict[str, Any] = {"sizes": sizes}
    return save_checkpoint(folder, step, policy.state_dict(), state, keep=1)


def load_policy(folder: Path) -> ActorPolicy:
    """Read what `save_policy` wrote.

    Raises:
        CheckpointError: if there is no such policy, or it is damaged.
    """
    saved = load_checkpoint(folder)
    try:
        obs_dim, *hidden, action_dim = saved.state["sizes"]
        actor = Actor(obs_dim, action_dim, hidden, rng=torch.Generator())
        box = ActionMap(saved.tensors["action_map.low"], saved.tensors["action_map.high"])
        policy = ActorPolicy(actor, Standardiser.identity(obs_dim), box)
        policy.load_state_dict(saved.tensors)
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{folder} does not hold a policy: {error}") from error
    return policy
