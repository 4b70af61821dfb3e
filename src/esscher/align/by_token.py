"""Reading draws token by token, and descending a loss over tokens in two passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor

from esscher.align.objectives.batch import TokenBatch
from esscher.align.propose import Scored, floored
from esscher.core.law import Law
from esscher.errors import ConfigError, NumericsError
from esscher.kit.lm.scoring import Pass
from esscher.kit.lm.token_model import TokenModel

__all__ = ["Reading", "descend_tokens", "finite_slope", "open_models"]


class Reading(NamedTuple):
    """B draws as a model reads them, N tokens in all, in the order of the passes.

    Attributes:
        parts: the passes.
        row: [N] int64, the draw a token belongs to.
        place: [N] int64, its place in the draw, from 0.
        lengths: [B] tokens per draw.
    """

    parts: list[Pass]
    row: Tensor
    place: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, model: TokenModel, draws: Scored) -> Reading:
        """The draws in the passes of a model."""
        parts = list(model.passes(draws.x, context=draws.context))
        row = torch.cat([p.rows.repeat_interleave(p.lengths) for p in parts])
        place = torch.cat([torch.arange(int(n)) for p in parts for n in p.lengths])
        return cls(parts, row, place, torch.bincount(row, minlength=len(draws.log_weight)))

    def padded(self, values: Tensor) -> Tensor:
        """Numbers of tokens [N] as [B, T], 0 beyond a draw's end."""
        out = values.new_zeros(len(self.lengths), int(self.lengths.max()))
        out[self.row, self.place] = values
        return out

    @torch.no_grad()
    def log_probs(self, model: TokenModel, *, also: int | None = None) -> Tensor:
        """[N, 1] float64 of the tokens drawn, or [N, 2] with that of one id in their place."""
        return torch.cat([_log_probs(model, part, also) for part in self.parts])

    def descend(self, model: TokenModel, slope: Tensor, *, also: int | None = None) -> None:
        """Add the gradient of a loss whose derivative in `log_probs` is the slope, pass by pass."""
        slopes = torch.split(slope, [len(p.target) for p in self.parts])
        with torch.enable_grad():
            for part, own in zip(self.parts, slopes, strict=True):
                torch.autograd.backward((own * _log_probs(model, part, also)).sum())


def _log_probs(model: TokenModel, part: Pass, also: int | None) -> Tensor:
    log_probs = model.token_logits(part.ids, part.mask).log_softmax(-1)
    ids = part.target[:, None]
    if also is not None:
        ids = torch.cat([ids, torch.full_like(ids, also)], 1)
    return log_probs.gather(1, ids).double().cpu()


def finite_slope(loss: Callable[[Tensor], Tensor], at: Tensor) -> tuple[float, Tensor]:
    """Value and derivative of a loss.

    Raises:
        NumericsError: if either is not finite.
    """
    leaf = at.detach().clone().requires_grad_()
    with torch.enable_grad():
        found = loss(leaf)
        (slope,) = torch.autograd.grad(found, leaf)
    value = float(found.detach())
    if not math.isfinite(value) or not bool(slope.isfinite().all()):
        raise NumericsError(
            f"the loss over tokens is {value:.4g} or has an infinite slope; lower the learning rate"
        )
    return value, slope


def descend_tokens(
    loss: Callable[[TokenBatch], Tensor],
    policy: TokenModel,
    prior: TokenModel,
    draws: Scored,
    floor: float,
) -> tuple[float, Tensor]:
    """Add the gradient of a loss over tokens; its value and log π [B] of the draws.

    Raises:
        NumericsError: if the loss or a slope is not finite.
    """
    reading = Reading.of(policy, draws)
    log_pi = reading.log_probs(policy)
    batch = TokenBatch(
        log_pi[:, 0],
        reading.log_probs(prior)[:, 0],
        reading.row,
        floored(draws.log_weight, floor),
        draws.groups,
        reading.lengths,
    )
    value, slope = finite_slope(lambda leaf: loss(batch._replace(log_pi=leaf[:, 0])), log_pi)
    reading.descend(policy, slope)
    return value, reading.padded(log_pi[:, 0]).sum(1)


def open_models(policy: Law, prior: Law, objective: str) -> tuple[TokenModel, TokenModel]:
    """Policy and prior as models whose next-token laws are open.

    Raises:
        ConfigError: if they are not.
    """
    for law, role in ((policy, "policy"), (prior, "prior")):
        if not isinstance(law, TokenModel):
            raise ConfigError(
                f"{objective} looks at tokens and needs a {role} whose next-token laws are open, "
                f"got a {type(law).__name__}"
            )
    return cast("TokenModel", policy), cast("TokenModel", prior)
