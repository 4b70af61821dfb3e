"""Two pieces of a transformer whose passes over memory autograd would multiply.

Each does what a few lines of torch would, and its test says so; together they save a fifth of a
training step of a small network on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["squared_relu", "token_log_prob"]

BLOCK = 256
"""Rows of logits worked on at once, so that they stay in the core's cache."""


class _SquaredReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        kept = x.clamp_min(0.0)
        ctx.save_for_backward(kept)
        return kept * kept

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (kept,) = ctx.saved_tensors
        return torch.mul(grad, kept).mul_(2.0)


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)², element by element."""
    if not torch.is_grad_enabled():
        return x.clamp_min(0.0).square_()
    y: Tensor = _SquaredReLU.apply(x)  # type: ignore[no-untyped-call]
    return y


class _TokenLogProb(Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        n = len(states)
        odds = states.new_empty(n, len(weight))
        total, log_prob = states.new_empty(n, 1), states.new_empty(n, 1)
        for i in range(0, n, BLOCK):
            part = slice(i, i + BLOCK)
            logits = torch.mm(states[part], weight.t(), out=odds[part])
            logits.sub_(logits.amax(1, keepdim=True))
            chosen = logits.gather(1, target[part, None])
            torch.sum(logits.exp_(), 1, keepdim=True, out=total[part])
            torch.sub(chosen, total[part].log(), out=log_prob[part])
        ctx.save_for_backward(states, weight, target, odds, total)
        return log_prob[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        states, weight, target, odds, total = ctx.saved_tensors
        grad = grad[:, None]
        scale = -grad / total
        grad_states, grad_weight = torch.empty_like(states), torch.zeros_like(weight)
        for i in range(0, len(states), BLOCK):
            part = slice(i, i + BLOCK)
            slope = odds[part] * scale[part]
            slope.scatter_add_(1, target[part, None], grad[part])
            torch.mm(slope, weight, out=grad_states[part])
            grad_weight.addmm_(slope.t(), states[part])
        return grad_states, grad_weight, None


def token_log_prob(states: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Log-probabilities [N] of tokens [N] under the softmax of states [N, d] times weight [V, d].

    Logits are computed and differentiated block by block and never as a graph of their own.
    """
    found: Tensor = _TokenLogProb.apply(states, weight, target)  # type: ignore[no-untyped-call]
    return found
