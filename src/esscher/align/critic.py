"""Proximal policy optimisation: a critic of prefixes, and several updates on each batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from esscher.align.by_token import Reading, finite_slope
from esscher.align.objectives.ppo import ClippedBatch, gae, ppo, token_rewards
from esscher.align.propose import Scored, floored
from esscher.kit.lm.clipped import clipped_step
from esscher.kit.lm.token_model import TokenModel

__all__ = ["Critic", "descend_clipped"]

EPOCHS = 4
"""Updates of the policy on each batch."""
HASTE = 10.0
"""Learning rate of the critic as a multiple of the policy's."""


@dataclass
class Critic:
    """What is still to be expected after a prefix: an unbounded twist of a frozen model.

    At the optimum it is log ψ(x_≤t) = log E_p0[φ | x_≤t].

    Attributes:
        twist: gives V(x_≤t) for every next token x_t.
        optimiser: Adam over it.
        updates: how many it has had.
    """

    twist: Any
    optimiser: torch.optim.Optimizer
    updates: int = 0

    @classmethod
    def start(cls, frozen: TokenModel) -> Critic:
        """An untrained critic on the network of a model that nobody trains."""
        twist = frozen.twist(bounded=False)
        return cls(twist, torch.optim.Adam(twist.parameters(), lr=0.0, betas=(0.9, 0.98)))

    def state_dict(self) -> dict[str, Any]:
        """Everything as nested tensors and numbers."""
        own = {"twist": self.twist.state_dict(), "optimiser": self.optimiser.state_dict()}
        return {**own, "updates": self.updates}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.twist.load_state_dict(saved["twist"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.updates = int(saved["updates"])

    @torch.no_grad()
    def values(self, reading: Reading, returns: Tensor, groups: Tensor) -> Tensor:
        """[B, T + 1] expected rewards before every token, given the returns [B].

        Before the first token it is the mean return of the other draws of the group.
        """
        if self.updates == 0:
            self.twist.fill(float(returns.mean()))
        after = torch.cat(
            [
                self.twist.values_of(self.twist.states(p.ids, p.mask), p.target)
                for p in reading.parts
            ]
        )
        after = reading.padded(after.double())
        inside = torch.arange(after.shape[1]) < reading.lengths[:, None] - 1
        return torch.cat([_of_others(returns, groups)[:, None], after * inside], 1)

    def learn(self, reading: Reading, goal: Tensor, lr: float, clip: float) -> None:
        """One update towards goals [B, T] of the prefixes that end with each token."""
        self.twist.zero_grad(set_to_none=True)
        last = reading.place == reading.lengths[reading.row] - 1
        wanted = goal[reading.row, reading.place]
        count = max(1, int((~last).sum()))
        start = 0
        for part in reading.parts:
            own = slice(start, start := start + len(part.target))
            with torch.enable_grad():
                states = self.twist.states(part.ids, part.mask)
                error = self.twist.values_of(states, part.target).double() - wanted[own]
                torch.autograd.backward((error[~last[own]] ** 2).sum() / (2 * count))
        clipped_step(self.optimiser, lr=lr, clip=clip, step=self.updates)
        self.updates += 1


def descend_clipped(
    critic: Critic,
    policy: TokenModel,
    prior: TokenModel,
    draws: Scored,
    *,
    floor: float,
    lr: float,
    clip: float,
    move: Callable[[], object],
) -> tuple[float, Tensor]:
    """Update policy and critic on one batch; the policy's last gradient is left to the caller.

    Args:
        critic: changed in place.
        policy: drew the draws; its gradient is added to.
        prior: of the target.
        draws: at least two per group.
        floor: nats; a draw the evidence rules out counts as -floor.
        lr: of the policy, this step.
        clip: largest gradient norm of the critic.
        move: applies the policy's gradient and clears it.

    Returns:
        The loss before the first update, and log π [B] of the draws then.

    Raises:
        NumericsError: if the loss or a slope is not finite.
    """
    reading = Reading.of(policy, draws)
    log_old = reading.log_probs(policy)
    rewards = token_rewards(
        reading.padded(log_old[:, 0]),
        reading.padded(reading.log_probs(prior)[:, 0]),
        floored(draws.log_weight, floor),
        reading.lengths,
        draws.prior_power,
    )
    values = critic.values(reading, rewards.sum(1), draws.groups)
    advantages = gae(rewards, values)
    goal = torch.nn.functional.pad((advantages + values[:, :-1])[:, 1:], (0, 1))
    advantage = advantages[reading.row, reading.place]
    n = len(draws.log_weight)
    first = 0.0
    for epoch in range(EPOCHS):
        log_pi = reading.log_probs(policy) if epoch else log_old

        def loss(leaf: Tensor) -> Tensor:
            return ppo(ClippedBatch(leaf[:, 0], log_old[:, 0], advantage, n))

        value, slope = finite_slope(loss, log_pi)
        reading.descend(policy, slope)
        critic.learn(reading, goal, HASTE * lr, clip)
        first = first if epoch else value
        if epoch + 1 < EPOCHS:
            move()
    return first, reading.padded(log_old[:, 0]).sum(1)


def _of_others(values: Tensor, groups: Tensor) -> Tensor:
    """Mean [B] over the other draws of each one's group."""
    _, group = torch.unique(groups, return_inverse=True)
    total = torch.zeros(int(group.max()) + 1, dtype=values.dtype).index_add(0, group, values)
    n = torch.bincount(group).to(values.dtype)
    return (total[group] - values) / (n[group] - 1).clamp(min=1)
