"""The learners: TD3 with regulariser, weight and penalty, and behaviour cloning."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from esscher.errors import ConfigError
from esscher.kit.rl import td3
from esscher.kit.rl.networks import Actor, mlp
from esscher.kit.rl.replay import Batch
from esscher.kit.rl.td3 import ActorView, Hooks, TargetView, move_actor
from esscher.kit.runs.seeds import Streams, rng_state, set_rng_state
from esscher.offline.config import OfflineConfig
from esscher.offline.densities.base import BehaviourDensity
from esscher.offline.densities.mixture import MixtureLaw
from esscher.offline.prepare import Prepared
from esscher.offline.regularise import entropy_weight, q_scale, relative_weight, reverse_kl

__all__ = ["Cloning", "DualWeight", "Learner", "TD3Offline"]

CANDIDATES = 8
"""Draws that stand in for the modes of a density that does not know its own."""


class Learner(Protocol):
    """Learns from a prepared data set, one batch at a time.

    Attributes:
        actor: the policy, on standardised observations.
        done: steps taken.
    """

    @property
    def actor(self) -> Actor:
        """The policy, on standardised observations."""
        ...

    @property
    def done(self) -> int:
        """Steps taken."""
        ...

    def step(self) -> dict[str, float | None]:
        """One gradient step; what it saw, by name."""
        ...

    def q(self, pair: Tensor) -> Tensor | None:
        """[B] the first critic's values of pairs [B, d + m]; None where there is no critic."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step needs but the data."""
        ...

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        ...


class DualWeight:
    """A multiplier softplus(g(s)) per state, raised where KL(π‖π_b) is above a budget.

    Args:
        obs_dim: d.
        rng: of the initial weights.

    Reference:
        Zhang, Kuppannagari, Prasanna (2021), "BRAC+".
    """

    def __init__(self, obs_dim: int, rng: torch.Generator) -> None:
        self.network = mlp((obs_dim, 64, 64, 1), rng=rng)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=3e-4, fused=True)

    def __call__(self, obs: Tensor) -> Tensor:
        """[B] multipliers."""
        value: Tensor = functional.softplus(self.network(obs).squeeze(-1))
        return value

    def follow(self, obs: Tensor, excess: Tensor) -> None:
        """Ascend multiplier × excess [B] of the KL over its budget."""
        loss = -(self(obs) * excess.clamp(-10, 10)).mean()
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimiser.step()


class TD3Offline:
    """TD3 on a fixed data set: regulariser × weight × critic penalty, as `OfflineConfig` says.

    Args:
        config: with algorithm "td3".
        data: prepared with the same configuration.
        seed: of weights, batches and noise.

    Attributes:
        state: of TD3.

    Raises:
        ConfigError: if the data lack a density the configuration needs.
    """

    def __init__(self, config: OfflineConfig, data: Prepared, seed: int) -> None:
        if config.needs_density and data.density is None:
            raise ConfigError("these data were prepared without a density; prepare them with this")
        if config.critic_penalty > 0 and config.regulariser == "mse" and data.next_action is None:
            raise ConfigError("these data were prepared without a critic penalty's next actions")
        streams = Streams(seed)
        self.config, self.data = config, data
        self.state = td3.init(data.replay.obs_dim, data.replay.action_dim, config.td3, streams)
        self.dual = None
        if config.weight == "dual" and config.regulariser == "reverse_kl":
            self.dual = DualWeight(data.replay.obs_dim, streams.torch("dual"))
        penalty = self._target_penalty if config.critic_penalty > 0 else None
        self._hooks = Hooks(self._actor_loss, penalty)
        self._seen: dict[str, float | None] = {}

    @property
    def actor(self) -> Actor:
        """The policy, on standardised observations."""
        return self.state.actor

    @property
    def done(self) -> int:
        """Steps taken."""
        return self.state.done

    def step(self) -> dict[str, float | None]:
        """One critic step, and every second time an actor step; what it saw, by name."""
        batch = self.data.replay.sample(self.config.td3.batch, self.state.rng)
        info = td3.step(self.state, batch, self.config.td3, self._hooks)
        return {"critic_loss": info.critic_loss, "q": info.q, "actor_loss": info.actor_loss} | (
            self._seen if info.actor_loss is not None else {}
        )

    def q(self, pair: Tensor) -> Tensor:
        """[B] the first critic's values of pairs [B, d + m]."""
        return self.state.critic.q1(pair)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step needs but the data."""
        saved = {"td3": self.state.state_dict()}
        if self.dual is not None:
            saved["dual"] = {
                "network": self.dual.network.state_dict(),
                "optimiser": self.dual.optimiser.state_dict(),
            }
        return saved

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.state.load_state_dict(saved["td3"])
        if self.dual is not None:
            self.dual.network.load_state_dict(saved["dual"]["network"])
            self.dual.optimiser.load_state_dict(saved["dual"]["optimiser"])

    def _actor_loss(self, view: ActorView) -> Tensor:
        config = self.config
        if view.done < config.warm_start:
            self._seen = {"regulariser": None, "lambda": None}
            return (view.action - self.best_centre(view.batch.obs)).square().mean()
        scale = q_scale(view.q, config.alpha)
        gain = scale * view.q.mean()
        if config.regulariser == "none":
            return -gain
        kept = self._regulariser(view)
        weight = self._weight(view.batch, kept.detach())
        self._seen = {"regulariser": float(kept.detach().mean()), "lambda": scale}
        return -gain + config.penalty * (weight * kept).mean()

    def _regulariser(self, view: ActorView) -> Tensor:
        """[B] R(s, π(s))."""
        if self.config.regulariser == "mse":
            return self._reduced((view.action - view.batch.action).square())
        kept = reverse_kl(
            self._density,
            view.batch.obs,
            view.action,
            std=self.config.policy_std,
            clip=self.config.gradient_clip,
            rng=view.rng,
        )
        return kept if self.config.reduction == "mean" else kept * view.action.shape[1]

    def _weight(self, batch: Batch, kept: Tensor) -> Tensor:
        """[B] w(s)."""
        config, data = self.config, self.data
        low, high = config.weight_range
        if config.weight == "entropy":
            assert data.entropy is not None
            entropy = data.entropy[batch.rows]
            m = data.replay.action_dim
            return entropy_weight(entropy, m, beta=config.weight_beta, low=low, high=high)
        if config.weight == "within_var":
            law = self._density
            assert isinstance(law, MixtureLaw)
            log_weight = -law.within_variance(batch.obs).log()
            return relative_weight(log_weight - log_weight.mean(), low, high)
        if self.dual is not None:
            return self._dual_weight(self.dual, batch, kept)
        return torch.ones(())

    def _dual_weight(self, dual: DualWeight, batch: Batch, kept: Tensor) -> Tensor:
        # The regulariser leaves out the policy's own entropy, which the KL has.
        std = max(self.config.policy_std, 1e-3)
        own = -0.5 * (1 + torch.log(torch.tensor(2 * torch.pi * std**2)))
        dual.follow(batch.obs, kept + own - self.config.kl_budget)
        return dual(batch.obs).detach()

    def _target_penalty(self, view: TargetView) -> Tensor:
        """[B] η R(s', a') of the target's action, weighted, never a bonus."""
        config, data = self.config, self.data
        if config.regulariser == "none":
            raise ConfigError("critic_penalty needs a regulariser; set it to 0")
        rows = view.batch.rows
        if config.regulariser == "mse":
            assert data.next_action is not None
            assert data.next_known is not None
            gap = self._reduced((view.action - data.next_action[rows]).square())
            return config.critic_penalty * gap * data.next_known[rows]
        nll = -self._density.log_prob(view.batch.next_obs, view.action) / view.action.shape[1]
        weight = torch.ones(())
        if data.next_entropy is not None:
            low, high = config.weight_range
            weight = entropy_weight(
                data.next_entropy[rows],
                view.action.shape[1],
                beta=config.weight_beta,
                low=low,
                high=high,
            )
        return config.critic_penalty * weight * nll.clamp(min=0)

    @torch.no_grad()
    def best_centre(self, obs: Tensor) -> Tensor:
        """[B, m] of the density's modes in each state the one the first critic prefers."""
        centres, worth = self._density.centres(obs, CANDIDATES, self.state.rng)
        b, k, m = centres.shape
        spread = obs[:, None].expand(b, k, obs.shape[1])
        q = self.state.critic.q1(torch.cat([spread, centres], 2).view(b * k, -1)).view(b, k)
        best = q.masked_fill(~worth, -torch.inf).argmax(1)
        return centres[torch.arange(b), best].view(b, m)

    @property
    def _density(self) -> BehaviourDensity:
        assert self.data.density is not None
        return self.data.density

    def _reduced(self, squares: Tensor) -> Tensor:
        return squares.mean(1) if self.config.reduction == "mean" else squares.sum(1)


class Cloning:
    """Behaviour cloning: the least squares action, which is the mean of all policies.

    Args:
        config: with algorithm "bc".
        data: prepared with the same configuration.
        seed: of weights and batches.
    """

    def __init__(self, config: OfflineConfig, data: Prepared, seed: int) -> None:
        streams = Streams(seed)
        self.config, self.data = config, data
        sizes = (data.replay.obs_dim, data.replay.action_dim, config.td3.hidden)
        self._actor = Actor(*sizes, rng=streams.torch("actor"))
        self._optimiser = torch.optim.Adam(
            self._actor.parameters(), lr=config.td3.lr_actor, fused=True
        )
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
        """One gradient step; what it saw, by name."""
        batch = self.data.replay.sample(self.config.td3.batch, self._rng)
        loss = (self._actor(batch.obs) - batch.action).square().mean()
        value = move_actor(loss, self._actor, self._optimiser, self._done)
        self._done += 1
        return {"actor_loss": value}

    def q(self, pair: Tensor) -> None:
        """None: cloning values nothing."""
        del pair

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step needs but the data."""
        return {
            "actor": self._actor.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "rng": rng_state(self._rng),
            "done": self._done,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self._actor.load_state_dict(saved["actor"])
        self._optimiser.load_state_dict(saved["optimiser"])
        set_rng_state(self._rng, saved["rng"])
        self._done = int(saved["done"])
