"""One step of an optimiser on a clipped gradient."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from esscher.errors import NumericsError

__all__ = ["clipped_step"]


def clipped_step(
    optimiser: torch.optim.Optimizer, *, lr: float, clip: float, step: int, loss: float = 0.0
) -> float:
    """Clip the gradient of all parameters together and move; its norm before clipping.

    Args:
        optimiser: holds the parameters.
        lr: learning rate; 0 leaves the optimiser as it is.
        clip: largest norm.
        step: for messages.
        loss: value that the gradient is of, checked with it.

    Raises:
        NumericsError: if the loss or the norm is not finite.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    found = nn.utils.clip_grad_norm_(parameters, clip)
    # Of gradients in parts on several processes it is one as well.
    norm = float(found.full_tensor() if isinstance(found, DTensor) else found)
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise NumericsError(
            f"loss {loss:.4g} and gradient norm {norm:.4g} at step {step} are not both finite; "
            "lower the learning rate"
        )
    for group in optimiser.param_groups:
        group["lr"] = lr
    if lr > 0:
        optimiser.step()
    return norm
