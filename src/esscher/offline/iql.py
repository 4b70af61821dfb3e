"""Implicit Q-learning: no action outside the data is ever valued."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from esscher.kit.rl.networks import Actor, TwinCritic, mlp
from esscher.kit.rl.td3 import check_finite, move_actor, polyak
from esscher.kit.runs.seeds import Streams, rng_state, set_rng_state
from esscher.offline.config import OfflineConfig
from esscher.offline.prepare import Prepared

__all__ = ["ImplicitQ"]

WEIGHT_CAP = 100.0


class ImplicitQ:
    """V follows an upper expectile of Q, Q follows r + γ V, the actor follows weighted data.

    The actor's mean is the policy; its width, one number per dimension, is learnt with
    it. Its learning rate falls along a cosine.

    Args:
        config: with algorithm "iql".
        data: prepared with the same configuration.
        seed: of weights and batches.

    Reference:
        Kostrikov, Nair, Levine (2022), "Offline reinforcement learning with implicit Q-learning".
    """

    def __init__(self, config: OfflineConfig, data: Prepared, seed: int) -> None:
        streams, settings = Streams(seed), config.td3
        d, m = data.replay.obs_dim, data.replay.action_dim
        self.config, self.data = config, data
        self._actor = Actor(d, m, settings.hidden, rng=streams.torch("actor"))
        self._log_std = nn.Parameter(torch.full((m,), -1.0))
        self._critic = TwinCritic(d, m, settings.hidden, rng=streams.torch("critic"))
        self._slow = copy.deepcopy(self._critic).requires_grad_(False)
        self._value = mlp((d, *settings.hidden, 1), rng=streams.torch("value"))
        rates = {"critic": settings.lr_critic, "value": settings.lr_critic}
        groups: dict[str, list[nn.Parameter]] = {
            "critic": list(self._critic.parameters()),
            "value": list(self._value.parameters()),
            "actor": [*self._actor.parameters(), self._log_std],
        }
        self._optimisers = {
            name: torch.optim.Adam(group, lr=rates.get(name, settings.lr_actor), fused=True)
            for name, group in groups.items()
        }
        self._policy = nn.ParameterList(groups["actor"])
        self._rng, self._done = streams.torch("steps"), 0

    @property
    def actor(self) -> Actor:
        """The policy, on standardised observations."""
        return self._actor

    @property
    def done(self) -> int:
        """Steps taken."""
        return self._done

    def step(self) -> dict[str, float | None]:
        """One step of value, critics and actor; what it saw, by name."""
        config = self.config
        batch = self.data.replay.sample(config.td3.batch, self._rng)
        with torch.no_grad():
            q = torch.minimum(*self._slow(batch.pair))
            after = self._value(batch.next_obs).squeeze(-1)
            target = batch.reward + config.td3.gamma * batch.continues * after
        value = self._value(batch.obs).squeeze(-1)
        advantage = q - value
        lean = (config.expectile - (advantage.detach() < 0).float()).abs()
        value_loss = self._descend("value", (lean * advantage.square()).mean())
        q1, q2 = self._critic(batch.pair)
        loss = (q1 - target).square().mean() + (q2 - target).square().mean()
        critic_loss = self._descend("critic", loss)
        weight = (config.temperature * advantage.detach()).exp().clamp(max=WEIGHT_CAP)
        actor_loss = self._follow(batch.obs, batch.action, weight)
        polyak(list(self._slow.parameters()), list(self._critic.parameters()), config.td3.tau)
        self._done += 1
        return {
            "critic_loss": critic_loss,
            "value_loss": value_loss,
            "q": float(q1.detach().mean()),
            "actor_loss": actor_loss,
        }

    def q(self, pair: Tensor) -> Tensor:
        """[B] the first critic's values of pairs [B, d + m]."""
        return self._critic.q1(pair)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step needs but the data."""
        return {
            "actor": self._actor.state_dict(),
            "log_std": self._log_std.detach(),
            "critic": self._critic.state_dict(),
            "slow": self._slow.state_dict(),
            "value": self._value.state_dict(),
            "optimisers": {name: o.state_dict() for name, o in self._optimisers.items()},
            "rng": rng_state(self._rng),
            "done": self._done,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        modules = (self._actor, self._critic, self._slow, self._value)
        for name, module in zip(("actor", "critic", "slow", "value"), modules, strict=True):
            module.load_state_dict(saved[name])
        with torch.no_grad():
            self._log_std.copy_(saved["log_std"])
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(saved["optimisers"][name])
        set_rng_state(self._rng, saved["rng"])
        self._done = int(saved["done"])

    def _follow(self, obs: Tensor, action: Tensor, weight: Tensor) -> float:
        optimiser = self._optimisers["actor"]
        share = min(1.0, self._done / self.config.steps)
        for group in optimiser.param_groups:
            group["lr"] = self.config.td3.lr_actor * 0.5 * (1 + math.cos(math.pi * share))
        log_std = self._log_std.clamp(-5, 1)
        z = (action - self._actor(obs)) * (-log_std).exp()
        loss = (weight * (0.5 * z.square() + log_std).sum(1)).mean()
        return move_actor(loss, self._policy, optimiser, self._done)

    def _descend(self, name: str, loss: Tensor) -> float:
        found = check_finite(loss, f"{name} loss", self._done)
        self._optimisers[name].zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimisers[name].step()
        return found
