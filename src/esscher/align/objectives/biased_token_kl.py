"""KL penalties by token that look at one token at a time, and so miss the target.

The KL of a token has consequences for all that follow, which a loss over tokens does not see. The
right placement by token is `ppo`'s: k1 inside the reward of every token, summed to the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.align.objectives.batch import TokenBatch
from esscher.align.objectives.grpo import dr_grpo

__all__ = ["k3_ratio_token_loss_biased", "k3_token_loss_biased"]


def k3_token_loss_biased(batch: TokenBatch) -> Tensor:
    """Leave-mean-out reward, and exp(u) - 1 - u of every token as a loss, summed over tokens.

    Not the target: the term's gradient is that of KL(p0‖π) of each next-token law, the other
    direction, on prefixes of π. The penalty of `grpo` without its divisions; it need not collapse.

    Reference: Shao et al. (2024, DeepSeekMath), equation 4; Tang and Munos (2025).
    """
    u = batch.log_prior - batch.log_pi
    return dr_grpo(batch) + (torch.expm1(u) - u).sum() / len(batch.lengths)


def k3_ratio_token_loss_biased(batch: TokenBatch) -> Tensor:
    """The same with every token's penalty times its ratio π/π_old, which is 1 but has a slope.

    Not the target: the term's gradient is that of KL(π‖p0) of each next-token law, the right
    direction, on prefixes held fixed, without what a token does to the KL of later ones. Of all
    biased placements the least so; it need not collapse.

    Reference: Tang and Munos (2025, "On a few pitfalls in KL divergence gradient estimation").
    """
    u = batch.log_prior - batch.log_pi
    ratio = (batch.log_pi - batch.log_pi.detach()).exp()
    return dr_grpo(batch) + (ratio * (torch.expm1(u) - u)).sum() / len(batch.lengths)
