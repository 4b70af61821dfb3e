"""TD3: twin critics with smoothed targets, a delayed deterministic actor; `init` and `step`.

Actions are in [-1, 1]^m and observations standardised; `esscher.kit.rl.normalise` maps to and fro.
The actor's loss and a penalty on the target's value are hooks, so that regularised variants are
the same algorithm with other parts.

Reference:
    Fujimoto, van Hoof, Meger (2018), "Addressing function approximation error in actor-critic
    methods", algorithm 1.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from esscher.errors import ConfigError, NumericsError
from esscher.kit.rl.networks import Actor, TwinCritic
from esscher.kit.rl.replay import Batch
from esscher.kit.runs.seeds import Streams, rng_state, set_rng_state

__all__ = [
    "ActorView",
    "Hooks",
    "TD3Config",
    "TD3Info",
    "TD3State",
    "TargetView",
    "check_finite",
    "descend",
    "init",
    "move_actor",
    "polyak",
    "step",
    "td_target",
]


@dataclass(frozen=True)
class TD3Config:
    """Settings of TD3; the defaults are those of Fujimoto and Gu (2021) for offline data."""

    lr_actor: float = 3e-4
    """Learning rate of the actor, > 0."""
    lr_critic: float = 3e-4
    """Learning rate of both critics, > 0."""
    batch: int = 256
    """Transitions per step, >= 1."""
    gamma: float = 0.99
    """Discount, in [0, 1)."""
    tau: float = 0.005
    """Share of the online weights in every target update, in (0, 1]."""
    policy_noise: float = 0.2
    """Standard deviation of the noise on target actions, >= 0, in units of half the action box."""
    noise_clip: float = 0.5
    """Largest such noise."""
    policy_delay: int = 2
    """Critic steps per actor step and target update, >= 1."""
    width: int = 256
    """Units of a hidden layer."""
    depth: int = 2
    """Hidden layers."""
    critic_norm: bool = False
    """LayerNorm in the critics' hidden layers."""

    def __post_init__(self) -> None:
        for name in ("batch", "policy_delay", "width", "depth"):
            if getattr(self, name) < 1:
                raise ConfigError(f"TD3Config.{name} must be >= 1, got {getattr(self, name)}")
        for name in ("lr_actor", "lr_critic"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"TD3Config.{name} must be positive, got {getattr(self, name)}")
        for name in ("policy_noise", "noise_clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"TD3Config.{name} must be >= 0, got {getattr(self, name)}")
        if not 0 <= self.gamma < 1:
            raise ConfigError(f"TD3Config.gamma must be in [0, 1), got {self.gamma}")
        if not 0 < self.tau <= 1:
            raise ConfigError(f"TD3Config.tau must be in (0, 1], got {self.tau}")

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return (self.width,) * self.depth


class ActorView(NamedTuple):
    """What an actor's loss may look at.

    Attributes:
        action: [B, m] the actor's actions, with gradient.
        q: [B] the first critic's value of them, with gradient through the action only.
        batch: the transitions.
        rng: the state's generator.
        done: critic steps taken before this one.
    """

    action: Tensor
    q: Tensor
    batch: Batch
    rng: torch.Generator
    done: int


class TargetView(NamedTuple):
    """What a penalty on the target's value may look at.

    Attributes:
        action: [B, m] smoothed actions of the target actor in the next states.
        batch: the transitions.
    """

    action: Tensor
    batch: Batch


@dataclass(frozen=True)
class Hooks:
    """The parts of TD3 that variants replace.

    Attributes:
        actor_loss: scalar to descend; minus the mean value if None.
        target_penalty: [B] taken off the value of the next state; none if None.
    """

    actor_loss: Callable[[ActorView], Tensor] | None = None
    target_penalty: Callable[[TargetView], Tensor] | None = None


class TD3Info(NamedTuple):
    """What a step saw.

    Attributes:
        critic_loss: sum of both mean squared errors.
        q: mean of the first critic on the batch.
        target: mean of the targets.
        actor_loss: None where the actor did not move.
    """

    critic_loss: float
    q: float
    target: float
    actor_loss: float | None


@dataclass
class TD3State:
    """All that the next step needs; modules are changed in place.

    Attributes:
        actor: the policy.
        critic: both values.
        actor_target, critic_target: their slow copies.
        actor_optimiser, critic_optimiser: Adam.
        rng: of target noise, sampling and hooks.
        done: critic steps taken.
    """

    actor: Actor
    critic: TwinCritic
    actor_target: Actor
    critic_target: TwinCritic
    actor_optimiser: torch.optim.Optimizer
    critic_optimiser: torch.optim.Optimizer
    rng: torch.Generator
    done: int = 0
    _online: list[Tensor] = field(init=False, repr=False)
    _slow: list[Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._online = [*self.actor.parameters(), *self.critic.parameters()]
        self._slow = [*self.actor_target.parameters(), *self.critic_target.parameters()]

    def follow(self, tau: float) -> None:
        """Move all targets by tau towards the online weights."""
        polyak(self._slow, self._online, tau)

    def state_dict(self) -> dict[str, Any]:
        """Everything as nested tensors and numbers."""
        return {name: part.state_dict() for name, part in self._parts().items()} | {
            "rng": rng_state(self.rng),
            "done": self.done,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        set_rng_state(self.rng, saved["rng"])
        self.done = int(saved["done"])

    def _parts(self) -> dict[str, Any]:
        names = (
            "actor", "critic", "actor_target", "critic_target", "actor_optimiser",
            "critic_optimiser",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


def init(obs_dim: int, action_dim: int, config: TD3Config, streams: Streams) -> TD3State:
    """A fresh state.

    Args:
        obs_dim: d.
        action_dim: m.
        config: settings.
        streams: of initial weights ("actor", "critic") and of the steps ("steps").
    """
    actor = Actor(obs_dim, action_dim, config.hidden, rng=streams.torch("actor"))
    critic = TwinCritic(
        obs_dim,
        action_dim,
        config.hidden,
        rng=streams.torch("critic"),
        layer_norm=config.critic_norm,
    )
    return TD3State(
        actor,
        critic,
        copy.deepcopy(actor).requires_grad_(False),
        copy.deepcopy(critic).requires_grad_(False),
        torch.optim.Adam(actor.parameters(), lr=config.lr_actor, fused=True),
        torch.optim.Adam(critic.parameters(), lr=config.lr_critic, fused=True),
        streams.torch("steps"),
    )


def step(state: TD3State, batch: Batch, config: TD3Config, hooks: Hooks = Hooks()) -> TD3Info:
    """One critic step; every `policy_delay` of them one actor step and a target update.

    Raises:
        NumericsError: if a loss is not finite; the state is then that before its update.
    """
    target = td_target(state, batch, config, hooks)
    q1, q2 = state.critic(batch.pair)
    loss = (q1 - target).square().mean() + (q2 - target).square().mean()
    value = check_finite(loss, "critic loss", state.done)
    descend(loss, list(state.critic.parameters()), state.critic_optimiser)
    moved = None
    if (state.done + 1) % config.policy_delay == 0:
        moved = _actor_step(state, batch, hooks)
        state.follow(config.tau)
    state.done += 1
    return TD3Info(value, float(q1.detach().mean()), float(target.mean()), moved)


def td_target(state: TD3State, batch: Batch, config: TD3Config, hooks: Hooks = Hooks()) -> Tensor:
    """[B] r + γ (min of both target critics at the smoothed target action - penalty).

    A terminated successor counts nothing, a truncated one counts in full.
    """
    with torch.no_grad():
        noise = torch.randn(batch.action.shape, generator=state.rng).mul_(config.policy_noise)
        noise.clamp_(-config.noise_clip, config.noise_clip)
        action = state.actor_target(batch.next_obs).add_(noise).clamp_(-1, 1)
        q1, q2 = state.critic_target(torch.cat([batch.next_obs, action], 1))
        value = torch.minimum(q1, q2)
        if hooks.target_penalty is not None:
            value = value - hooks.target_penalty(TargetView(action, batch))
        return batch.reward + config.gamma * batch.continues * value


def _actor_step(state: TD3State, batch: Batch, hooks: Hooks) -> float:
    action = state.actor(batch.obs)
    q = state.critic.q1(torch.cat([batch.obs, action], 1))
    if hooks.actor_loss is None:
        loss = -q.mean()
    else:
        loss = hooks.actor_loss(ActorView(action, q, batch, state.rng, state.done))
    return move_actor(loss, state.actor, state.actor_optimiser, state.done)


def move_actor(
    loss: Tensor, actor: nn.Module, optimiser: torch.optim.Optimizer, done: int
) -> float:
    """Descend a loss along the actor's weights only, and return its value.

    Gradients of other weights on the way, such as a critic's, are not formed.

    Raises:
        NumericsError: if the loss is not finite.
    """
    value = check_finite(loss, "actor loss", done)
    descend(loss, list(actor.parameters()), optimiser)
    return value


def descend(loss: Tensor, parameters: list[nn.Parameter], optimiser: torch.optim.Optimizer) -> None:
    """One step of an optimiser along the gradient in its own parameters, forming no others."""
    for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = slope
    optimiser.step()


def polyak(slow: list[Tensor], online: list[Tensor], tau: float) -> None:
    """Slow ← (1 - tau) slow + tau online, in place."""
    with torch.no_grad():
        torch._foreach_lerp_(slow, online, tau)


def check_finite(loss: Tensor, what: str, done: int) -> float:
    """The value of a scalar loss.

    Raises:
        NumericsError: if it is NaN or infinite.
    """
    value = loss.item()
    if not math.isfinite(value):
        raise NumericsError(
            f"{what} is {value} after {done} steps; look at the rewards' scale, or lower the "
            "learning rates"
        )
    return float(value)
