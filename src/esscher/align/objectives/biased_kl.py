"""Ways to place the KL to the prior that are met in practice and miss the target.

Each is an unbiased estimate of KL(π‖p0), or near one, put where its gradient is that of something
else. With u = log p0 - log π: k1 = -u, k2 = u²/2, k3 = exp(u) - 1 - u. The one right placement,
k1 inside the reward, is `reverse_kl`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.align.objectives.batch import Batch
from esscher.align.objectives.rl import rl

__all__ = ["k1_loss_biased", "k2_reward_biased", "k3_loss_biased", "k3_reward_biased"]


def k1_loss_biased(batch: Batch) -> Tensor:
    """The mean of log π - log p0 as a loss beside the reward: no KL term at all.

    E_π[∇ log π] = 0, so that only noise is added to `rl`, and it collapses like it.

    Reference: Tang and Munos (2025, "On a few pitfalls in KL divergence gradient estimation").
    """
    return rl(batch) - _u(batch).mean()


def k2_reward_biased(batch: Batch) -> Tensor:
    """½ (log π - log p0)² taken off the reward, without its own derivative.

    Not the target: it descends -E_π[G] + E_π[k2] - KL(π‖p0), which stops far from p* where it does
    not collapse.

    Reference: Tang and Munos (2025); Schulman (2020) for the estimators.
    """
    return _with_penalty(batch, _u(batch) ** 2 / 2)


def k3_reward_biased(batch: Batch) -> Tensor:
    """exp(u) - 1 - u taken off the reward, without its own derivative.

    Not the target: it descends -E_π[G] + KL(π‖p0) - KL(p0‖π), and so is paid for leaving out what
    the prior says; KL(p*‖π) grows without bound before the rest can collapse.

    Reference: Tang and Munos (2025); Schulman (2020) for the estimators.
    """
    u = _u(batch)
    return _with_penalty(batch, torch.expm1(u) - u)


def k3_loss_biased(batch: Batch) -> Tensor:
    """The mean of exp(u) - 1 - u over whole draws as a loss beside the reward.

    Not the target: it descends -E_π[G] + KL(p0‖π), the other direction, under which π may
    collapse onto rewarded texts as long as it keeps a little of everything.

    Reference: Tang and Munos (2025); Schulman (2020) for the estimators.
    """
    u = _u(batch)
    return rl(batch) + (torch.expm1(u) - u).mean()


def _u(batch: Batch) -> Tensor:
    """[B] log p0 - log π."""
    return batch.log_target - batch.log_weight - batch.log_pi


def _with_penalty(batch: Batch, penalty: Tensor) -> Tensor:
    return rl(batch._replace(log_weight=batch.log_weight - penalty.detach()))
