"""The loop of every fit to pairs: steps, looks at held-out pairs, early stopping, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from esscher.align.preferences.config import PairConfig
from esscher.align.preferences.pairs import Split, weighted_mean
from esscher.align.preferences.train import State, Task, init, step
from esscher.core.estimate import Estimate
from esscher.errors import NumericsError
from esscher.kit.lm.scoring import gather
from esscher.kit.runs.folder import Run
from esscher.kit.runs.history import log_row, resume_run

__all__ = ["OnStep", "Trained", "held_out_scores", "train"]

Measure = Callable[[int, torch.Tensor, torch.Tensor], Mapping[str, Estimate]]
"""(steps done, held-out scores of the first texts, of the second) -> further numbers."""

OnStep = Callable[[int, int, Mapping[str, Any]], None]
"""Called with (done, total, history row) after every step."""


class Trained(NamedTuple):
    """How a fit to pairs went; the task's module holds its result.

    Attributes:
        history: one row per step: numbers, and estimates as {"mean", "se", "n"}.
        step: the step whose model is the result, that of the lowest held-out loss.
        stopped: why training ended before its last step; None if it did not.
    """

    history: list[dict[str, Any]]
    step: int
    stopped: str | None


def train(
    task: Task,
    split: Split,
    config: PairConfig,
    measure: Measure,
    *,
    run: Run | None = None,
    save_every: int = 25,
    on_step: OnStep | None = None,
) -> Trained:
    """Train a task's module on pairs; it ends with the parameters of the lowest held-out loss.

    Args:
        task: what is trained.
        split: pairs to train on, and pairs to stop by.
        config: settings.
        measure: what else is measured on the held-out pairs.
        run: where metrics and checkpoints go; a run that has a checkpoint is continued.
        save_every: steps between checkpoints.
        on_step: called with (done, total, history row) after every step.

    Raises:
        NumericsError: if a loss, held-out or not, or its gradient is not finite.
    """
    state = init(task)
    saved, history = resume_run(run, state.state_dict())
    if saved is not None:
        state.load_state_dict(saved)
    if state.done == 0:
        first = _look(state, task, split, config, measure)
        if not history:
            log_row(history, run, 0, first)
    while state.done < config.steps and state.stopped is None:
        state, info = step(state, task, split.train, config)
        row: dict[str, object] = dict(info._asdict())
        if state.done % config.check_every == 0 or state.done == config.steps:
            row |= _look(state, task, split, config, measure)
        log_row(history, run, state.done, row)
        last = state.done == config.steps or state.stopped is not None
        if run is not None and (state.done % save_every == 0 or last):
            run.save(state.done, state.state_dict())
        if on_step is not None:
            on_step(state.done, config.steps, history[-1])
    if state.best is not None:
        task.module.load_state_dict(state.best)
    return Trained(history, state.best_step, state.stopped)


@torch.no_grad()
def held_out_scores(task: Task, split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """The task's scores of the held-out pairs' first texts [N] and second ones [N]."""
    x, context = split.held_out.both()
    chosen, rejected = gather(task.chunks(x, context=context), 2 * len(split.held_out)).view(2, -1)
    return chosen, rejected


def _look(
    state: State, task: Task, split: Split, config: PairConfig, measure: Measure
) -> dict[str, Estimate]:
    """What the held-out pairs say now; the state takes note of their loss."""
    chosen, rejected = held_out_scores(task, split)
    losses = task.losses(chosen, rejected, split.held_out)
    bad = (~losses.isfinite()).nonzero()[:, 0].tolist()
    if bad:
        raise NumericsError(
            f"the loss of held-out pair {bad[0]} is {float(losses[bad[0]])} after {state.done} "
            f"steps (scores {float(chosen[bad[0]]):.4g} and {float(rejected[bad[0]]):.4g}); lower "
            f"lr={task.lr:g}"
        )
    loss = weighted_mean(losses, split.held_out.weight, unit="nats")
    state.look(loss.mean, config.patience)
    return {"held_out_loss": loss, **measure(state.done, chosen, rejected)}
