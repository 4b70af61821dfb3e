"""Conservative Q-learning: values pushed down where the policy goes, up where the data are."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from esscher.kit.rl.networks import Actor, TwinCritic, mlp
from esscher.kit.rl.td3 import check_finite, descend, polyak
from esscher.kit.runs.seeds import Streams, rng_state, set_rng_state
from esscher.offline.config import OfflineConfig
from esscher.offline.prepare import Prepared

__all__ = ["ConservativeQ", "SquashedPolicy", "soft_maximum"]

LOG_STD = (-5.0, 2.0)
RATE = 1e-4
"""Of the entropy's temperature and the conservative multiplier."""


class SquashedPolicy(nn.Module):
    """a = tanh(mean(s) + std(s) ε). Its mean is an `Actor`, which is the policy that is kept.

    Args:
        actor: gives tanh of the mean.
        spread: network [d] → [m], log standard deviations before they are clipped.
    """

    def __init__(self, actor: Actor, spread: nn.Module) -> None:
        super().__init__()
        self.actor, self.spread = actor, spread

    def forward(self, obs: Tensor, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws [B, n, m] with gradient, and their log-densities [B, n] on the box."""
        mean, log_std = self.actor.body(obs)[:, None], self.spread(obs).clamp(*LOG_STD)[:, None]
        noise = torch.randn(len(obs), n, mean.shape[-1], generator=rng)
        raw = mean + log_std.exp() * noise
        log_prob = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh²) in a form that does not overflow.
        squash = 2 * (math.log(2) - raw - functional.softplus(-2 * raw))
        return raw.tanh(), (log_prob - squash).sum(-1)


def soft_maximum(q: Tensor, log_prob: Tensor) -> Tensor:
    """[B] log Σ_k exp(Q(s, a_k) - log μ(a_k)) of K draws a_k from densities μ.

    Less log K it estimates log ∫ exp Q(s, a) da. The published code sums and does not average;
    the constant counts against the budget only.

    Args:
        q: [B, K] values of the draws.
        log_prob: [B, K] log-density each was drawn with.
    """
    return torch.logsumexp(q - log_prob, 1)


class ConservativeQ:
    """CQL(H): an entropy-regularised actor, and critics with the penalty logsumexp Q - Q(data).

    The penalty's multiplier grows while weight × penalty is above a budget and falls while it is
    below.

    Args:
        config: with algorithm "cql".
        data: prepared with the same configuration.
        seed: of weights, batches and draws.

    Reference:
        Kumar, Zhou, Tucker, Levine (2020), "Conservative Q-learning for offline reinforcement
        learning", equation 4 and appendix F.
    """

    def __init__(self, config: OfflineConfig, data: Prepared, seed: int) -> None:
        streams, settings = Streams(seed), config.td3
        d, m = data.replay.obs_dim, data.replay.action_dim
        self.config, self.data = config, data
        self._policy = SquashedPolicy(
            Actor(d, m, settings.hidden, rng=streams.torch("actor")),
            mlp((d, *settings.hidden, m), rng=streams.torch("spread")),
        )
        self._critic = TwinCritic(
            d, m, settings.hidden, rng=streams.torch("critic"), layer_norm=settings.critic_norm
        )
        self._slow = copy.deepcopy(self._critic).requires_grad_(False)
        self._logs = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(())) for name in ("temperature", "multiplier")}
        )
        groups: dict[str, tuple[nn.Module, float]] = {
            "policy": (self._policy, settings.lr_actor),
            "critic": (self._critic, settings.lr_critic),
            "logs": (self._logs, RATE),
        }
        self._optimisers = {
            name: torch.optim.Adam(module.parameters(), lr=rate, fused=True)
            for name, (module, rate) in groups.items()
        }
        self._rng, self._done = streams.torch("steps"), 0

    @property
    def actor(self) -> Actor:
        """The policy, on standardised observations."""
        return self._policy.actor

    @property
    def done(self) -> int:
        """Steps taken."""
        return self._done

    def step(self) -> dict[str, float | None]:
        """One step of critics, multiplier, actor and temperature; what it saw, by name."""
        config, settings = self.config, self.config.td3
        batch = self.data.replay.sample(settings.batch, self._rng)
        with torch.no_grad():
            action = self._policy(batch.next_obs, 1, self._rng)[0][:, 0]
            after = torch.minimum(*self._slow(torch.cat([batch.next_obs, action], 1)))
            target = batch.reward + settings.gamma * batch.continues * after
        q = torch.stack(self._critic(batch.pair))
        gap = self.soft_maxima(batch.obs, batch.next_obs) - q
        excess = config.conservative_weight * gap.mean(1) - config.conservative_budget
        multiplier = self._logs["multiplier"].exp()
        error = (q - target).square().mean(1).sum()
        loss = error + (multiplier.detach().clamp(max=1e6) * excess).sum()
        critic_loss = check_finite(loss, "critic loss", self._done)
        descend(loss, list(self._critic.parameters()), self._optimisers["critic"])
        own, log_prob = self._policy(batch.obs, 1, self._rng)
        temperature = self._logs["temperature"].exp()
        worth = torch.minimum(*self._critic(torch.cat([batch.obs, own[:, 0]], 1)))
        actor_loss = (temperature.detach() * log_prob[:, 0] - worth).mean()
        value = check_finite(actor_loss, "actor loss", self._done)
        descend(actor_loss, list(self._policy.parameters()), self._optimisers["policy"])
        # The entropy aimed at is -m nats, as in soft actor-critic.
        surplus = -log_prob.detach().mean() + own.shape[-1]
        duals = temperature * surplus - multiplier * excess.detach().mean()
        descend(duals, list(self._logs.parameters()), self._optimisers["logs"])
        polyak(list(self._slow.parameters()), list(self._critic.parameters()), settings.tau)
        self._done += 1
        return {
            "critic_loss": critic_loss,
            "q": float(q.detach()[0].mean()),
            "actor_loss": value,
            "conservative_gap": float(gap.detach().mean()),
            "multiplier": float(multiplier.detach()),
        }

    def soft_maxima(self, obs: Tensor, next_obs: Tensor) -> Tensor:
        """[2, B] `soft_maximum` of both critics over uniform draws and the policy's here and next.

        Gradients reach the critics only.
        """
        b, k = len(obs), self.config.conservative_draws
        m = self.data.replay.action_dim
        with torch.no_grad():
            uniform = 2 * torch.rand(b, k, m, generator=self._rng) - 1
            here, next_ = (self._policy(s, k, self._rng) for s in (obs, next_obs))
            draws = torch.cat([uniform, here[0], next_[0]], 1)
            even = torch.full((b, k), -m * math.log(2))
            log_prob = torch.cat([even, here[1], next_[1]], 1)
        spread = obs[:, None].expand(b, 3 * k, obs.shape[1])
        values = self._critic(torch.cat([spread, draws], 2).view(3 * b * k, -1))
        return torch.stack([soft_maximum(v.view(b, 3 * k), log_prob) for v in values])

    def q(self, pair: Tensor) -> Tensor:
        """[B] the first critic's values of pairs [B, d + m]."""
        return self._critic.q1(pair)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step needs but the data."""
        return {name: part.state_dict() for name, part in self._modules().items()} | {
            "optimisers": {name: o.state_dict() for name, o in self._optimisers.items()},
            "rng": rng_state(self._rng),
            "done": self._done,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name, module in self._modules().items():
            module.load_state_dict(saved[name])
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(saved["optimisers"][name])
        set_rng_state(self._rng, saved["rng"])
        self._done = int(saved["done"])

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "policy": self._policy,
            "critic": self._critic,
            "slow": self._slow,
            "logs": self._logs,
        }
