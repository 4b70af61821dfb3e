"""One training step on preference pairs: `init` and `step`, for policies and reward models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from esscher.align.preferences.config import PairConfig
from esscher.align.preferences.pairs import Pairs
from esscher.kit.lm.clipped import clipped_step
from esscher.kit.lm.pretrain import cosine_lr
from esscher.kit.lm.scoring import gather
from esscher.kit.runs.seeds import Streams

__all__ = ["Info", "State", "Task", "init", "step"]

KEPT_GRAPHS = 2**29
"""Most bytes of autograd graphs held at once instead of scoring a batch twice."""


@dataclass(frozen=True)
class Task:
    """What is trained on pairs: numbers for samples, and a loss of two numbers.

    Attributes:
        module: the parameters.
        chunks: (samples, context=prompts) -> (index [b], score [b] float64 with graph) pairs that
            cover the batch once.
        graph_bytes: (samples, context=prompts) -> about how many bytes the graphs of all take.
        losses: (scores of the first [B], of the second [B], pairs) -> losses [B].
        lr: peak learning rate of Adam.
    """

    module: nn.Module
    chunks: Callable[..., Iterator[tuple[Tensor, Tensor]]]
    graph_bytes: Callable[..., int]
    losses: Callable[[Tensor, Tensor, Pairs], Tensor]
    lr: float


@dataclass
class State:
    """All that the next step needs; random numbers are named by the step, so none are stored.

    Attributes:
        module: the parameters, changed in place.
        optimiser: Adam over them.
        done: steps taken.
        best_loss: lowest held-out loss so far.
        best_step: steps done when it was seen.
        best: the parameters then; None before the first look.
        worse: looks since.
        stopped: why training ended before its last step.
    """

    module: nn.Module
    optimiser: torch.optim.Optimizer
    done: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    best: dict[str, Any] | None = None
    worse: int = 0
    stopped: str | None = None

    def look(self, loss: float, patience: int) -> None:
        """Take note of a held-out loss; stops training after `patience` looks without a lower one.

        Reference: Prechelt (1998) for early stopping.
        """
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.worse = loss, self.done, 0
            self.best = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
            return
        self.worse += 1
        if self.worse >= patience:
            self.stopped = (
                f"the held-out loss was lowest, {self.best_loss:.4g}, at step {self.best_step} and "
                f"not lower at any of {self.worse} looks since; the model of that step is kept"
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything as nested tensors and numbers."""
        return {
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "done": self.done,
            "best_loss": self.best_loss,
            "best_step": self.best_step,
            "best": self.best,
            "worse": self.worse,
            "stopped": self.stopped,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.module.load_state_dict(saved["module"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.done, self.worse = int(saved["done"]), int(saved["worse"])
        self.best_loss, self.best_step = float(saved["best_loss"]), int(saved["best_step"])
        self.best, self.stopped = saved["best"], saved["stopped"]


class Info(NamedTuple):
    """What a step saw of its own batch.

    Attributes:
        loss: weighted mean over the batch.
        grad_norm: before clipping.
        lr: learning rate used.
    """

    loss: float
    grad_norm: float
    lr: float


def init(task: Task) -> State:
    """A fresh state; the task's module is trained in place."""
    parameters = [p for p in task.module.parameters() if p.requires_grad]
    return State(task.module, torch.optim.Adam(parameters, lr=0.0, betas=(0.9, 0.98), fused=True))


def step(state: State, task: Task, pairs: Pairs, config: PairConfig) -> tuple[State, Info]:
    """Move the module down the gradient of one batch; the state is changed in place and returned.

    Batches go through the pairs in an order that is shuffled anew every time round.

    Raises:
        NumericsError: if the loss or its gradient is not finite.
    """
    part = pairs.take(_rows(len(pairs), state.done, config))
    lr = cosine_lr(state.done, config.steps, task.lr, config.warmup, 0.0)
    state.optimiser.zero_grad(set_to_none=True)
    loss = _differentiate(task, part)
    norm = clipped_step(state.optimiser, lr=lr, clip=config.clip, step=state.done, loss=loss)
    state.done += 1
    return state, Info(loss, norm, lr)


def _rows(n: int, done: int, config: PairConfig) -> Tensor:
    """Which pairs the batch after `done` steps holds."""
    if config.batch >= n:
        return torch.arange(n)
    place = done * config.batch + torch.arange(config.batch)
    rows = []
    for time in range(int(place[0]) // n, int(place[-1]) // n + 1):
        order = torch.randperm(n, generator=Streams(config.seed).torch("order", time))
        rows.append(order[place[place // n == time] % n])
    return torch.cat(rows)


def _differentiate(task: Task, part: Pairs) -> float:
    """The loss of a batch; its gradient is added to the module's.

    Both texts of a pair weigh on each other's gradient, so the slope in all scores comes first. The
    passes through the network are then repeated one at a time where their graphs are too large.
    """
    x, context = part.both()
    keep = task.graph_bytes(x, context=context) <= KEPT_GRAPHS
    with torch.set_grad_enabled(keep):
        chunks = list(task.chunks(x, context=context))
    scores = gather(chunks, 2 * len(part))
    with torch.enable_grad():
        leaf = scores.requires_grad_()
        chosen, rejected = leaf.view(2, -1)
        losses = task.losses(chosen, rejected, part)
        loss = (part.weight * losses).sum() / part.weight.sum()
        (slope,) = torch.autograd.grad(loss, leaf)
        for index, score in chunks if keep else task.chunks(x, context=context):
            torch.autograd.backward((slope[index] * score).sum())
    return float(loss.detach())
