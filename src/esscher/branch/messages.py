"""Sums of messages along edges, differentiable: by compiled loops on a CPU, else by tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from esscher.branch.compiling import available
from esscher.branch.kernels import SLOPE, compiled

__all__ = ["plain_sum_of_messages", "sum_of_messages"]

Edges = tuple[Tensor, Tensor, Tensor]


def sum_of_messages(
    left: Tensor, right: Tensor, weight: Tensor, norm: nn.LayerNorm, edges: Edges
) -> Tensor:
    """[T, h] Σ over edges e from i to j of LeakyReLU(LayerNorm(left_i + right_j + value_e weight)).

    Args:
        left: [S, h] of sources.
        right: [T, h] of targets.
        weight: [h].
        norm: over h features.
        edges: source [E] int32, target [E] int32 and value [E] of every edge.
    """
    if not available() or left.device.type != "cpu" or left.dtype != torch.float32:
        return plain_sum_of_messages(left, right, weight, norm, edges)
    centred = (part - part.mean(-1, keepdim=True) for part in (left, right, weight))
    total: Tensor = _Sum.apply(*centred, norm.weight, norm.bias, *edges)  # type: ignore[no-untyped-call]
    return total


def plain_sum_of_messages(
    left: Tensor, right: Tensor, weight: Tensor, norm: nn.LayerNorm, edges: Edges
) -> Tensor:
    """The same by tensor operations, on any device."""
    source, target, value = edges
    x = left.index_select(0, source) + right.index_select(0, target) + value[:, None] * weight
    message = functional.leaky_relu(norm(x), SLOPE)
    return torch.zeros_like(right).index_add_(0, target, message)


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, *args: Tensor) -> Tensor:
        ctx.save_for_backward(*args)
        total = torch.zeros_like(args[1])
        compiled().forward(*_arrays(args), (0,) * total.shape[1], total.numpy())
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        args = ctx.saved_tensors
        slopes = [torch.zeros_like(part, requires_grad=False) for part in (*args[:5], args[7])]
        above = grad.contiguous().numpy()
        grads = above, *(slope.numpy() for slope in slopes)
        compiled().backward(*_arrays(args), (0,) * above.shape[1], grads)
        return (*slopes[:5], None, None, slopes[5])


def _arrays(args: Sequence[Tensor]) -> tuple[tuple[Any, ...], ...]:
    """Ends, norm and edges as the loops take them."""
    parts = tuple(part.detach().contiguous().numpy() for part in args)
    return parts[:2], parts[2:5], parts[5:]
