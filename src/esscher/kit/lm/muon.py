"""Muon for a transformer's matrices, AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from esscher.kit.lm.gpt import GPT

__all__ = ["Muon", "muon_and_adamw", "orthogonalised", "scale_rates"]

ROUNDS = 3
"""Newton-Schulz rounds; five do no better here."""


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, with decoupled weight decay.

    An update is scaled to the size AdamW's would have. `torch.optim.Muon` does the same with one
    matrix at a time in bfloat16, which takes a CPU more than twice as long as matrices of one
    shape together in float32.

    Args:
        matrices: parameters of two dimensions.
        lr: learning rate.
        weight_decay: per step and unit of learning rate.
        momentum: decay of the moving average of gradients, which is applied in Nesterov's way.

    Reference: Jordan et al. (2024) for the method; Liu et al. (2025) for the scale.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient; a closure is not taken."""
        del closure
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for matrices in by_shape.values():
                self._move(matrices, group)

    def _move(self, matrices: list[nn.Parameter], group: dict[str, Any]) -> None:
        lr, momentum = group["lr"], group["momentum"]
        updates = orthogonalised(torch.stack([self._smoothed(p, momentum) for p in matrices]))
        scale = 0.2 * math.sqrt(max(matrices[0].shape))
        for p, update in zip(matrices, updates, strict=True):
            p.mul_(1 - lr * group["weight_decay"]).add_(update, alpha=-lr * scale)

    def _smoothed(self, p: nn.Parameter, momentum: float) -> Tensor:
        """The gradient one step ahead of its moving average."""
        state, grad = self.state[p], p.grad
        assert grad is not None
        if "average" not in state:
            state["average"] = torch.zeros_like(grad)
        average: Tensor = state["average"].lerp_(grad, 1 - momentum)
        return grad.lerp(average, momentum)


def orthogonalised(x: Tensor) -> Tensor:
    """Matrices [k, m, n] with their singular values moved towards 1, by a quintic Newton-Schulz."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def muon_and_adamw(
    network: GPT,
    others: Sequence[tuple[nn.Parameter, float]] = (),
    *,
    lr: float,
    matrix_lr: float,
    weight_decay: float,
    matrix_decay: float,
) -> list[torch.optim.Optimizer]:
    """Optimisers that share out a network's parameters, and some more with rates of their own.

    Muon trains the blocks' matrices; AdamW (β = 0.9, 0.98) the embeddings, norms and others.

    Args:
        network: the transformer.
        others: (parameter, peak learning rate) pairs.
        lr: peak learning rate of AdamW.
        matrix_lr: of Muon.
        weight_decay: of AdamW.
        matrix_decay: of Muon.
    """
    matrices = [p for p in network.blocks.parameters() if p.ndim == 2]
    rest = [p for p in network.parameters() if all(p is not m for m in matrices)]
    groups = [{"params": rest, "lr": lr}, *({"params": [p], "lr": rate} for p, rate in others)]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
    optimisers = [adam, Muon(matrices, matrix_lr, matrix_decay)]
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
    return optimisers


def scale_rates(optimisers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Set every learning rate to its peak times the factor."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = factor * group["initial_lr"]
