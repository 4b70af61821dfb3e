"""Sub-trajectory balance on draws: flows of all their prefixes."""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.align.by_token import Reading, finite_slope
from esscher.align.objectives.subtb import PathBatch, subtb
from esscher.align.propose import Scored, floored, weigh
from esscher.core.target import Target
from esscher.kit.lm.sequences import Sequences
from esscher.kit.lm.token_model import TokenModel

__all__ = ["descend_paths"]


def descend_paths(
    policy: TokenModel, prior: TokenModel, target: Target, draws: Scored, floor: float
) -> tuple[float, Tensor]:
    """Add the gradient of `subtb`; its value and log π [B] of the draws.

    The evidence weighs every prefix as if it ended there, which are as many texts as the draws have
    tokens.

    Args:
        policy: its gradient is added to.
        prior: of the target.
        target: prior and evidence.
        draws: of any law.
        floor: nats; a text the evidence rules out counts as -floor.

    Raises:
        NumericsError: if the loss or a slope is not finite.
    """
    reading = Reading.of(policy, draws)
    end = policy.end
    log_pi = reading.log_probs(policy, also=end)
    log_p0 = reading.log_probs(prior, also=end) * draws.prior_power
    before = reading.padded(log_p0[:, 0])
    before = before.cumsum(1) - before
    ended = before[reading.row, reading.place] + log_p0[:, 1]
    ended = ended + floored(_weights(policy, target, draws, reading), floor)
    x = policy.sequences(draws.x)
    whole = reading.padded(log_p0[:, 0]).sum(1) + floored(draws.log_weight, floor)

    def loss(leaf: Tensor) -> Tensor:
        return subtb(_paths(reading, leaf, ended, whole, x.finished))

    value, slope = finite_slope(loss, log_pi)
    reading.descend(policy, slope, also=end)
    return value, reading.padded(log_pi[:, 0]).sum(1)


def _paths(
    reading: Reading, log_pi: Tensor, ended: Tensor, whole: Tensor, finished: Tensor
) -> PathBatch:
    """Gaps of the prefixes of every draw; one that was cut is its own last prefix."""
    chosen = reading.padded(log_pi[:, 0])
    so_far = chosen.cumsum(1) - chosen
    gap = so_far - reading.padded(ended - log_pi[:, 1])
    last = chosen.sum(1) - whole
    gap = torch.cat([gap, torch.zeros_like(gap[:, :1])], 1)
    place = torch.arange(gap.shape[1])
    is_last = ~finished[:, None] & (place == reading.lengths[:, None])
    inside = (place < reading.lengths[:, None]) | is_last
    return PathBatch(torch.where(is_last, last[:, None], gap), inside)


def _weights(model: TokenModel, target: Target, draws: Scored, reading: Reading) -> Tensor:
    """Evidence log-weights [N] of the prefixes before every token, each with an end."""
    tokens = model.sequences(draws.x).tokens[reading.row]
    here = torch.arange(tokens.shape[1]) >= reading.place[:, None]
    lengths = reading.place + 1
    x = Sequences(tokens.masked_fill(here, model.end), lengths, torch.ones_like(lengths).bool())
    context = None if draws.context is None else [draws.context[i] for i in reading.row.tolist()]
    return weigh(target, model.of_sequences(x), context)
