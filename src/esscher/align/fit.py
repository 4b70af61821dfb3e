"""Fit a policy to a target: checks, the one training loop, checkpoints, and what is kept."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from esscher.align.config import FitConfig
from esscher.align.credit import SOME, Credit, can_credit
from esscher.align.normaliser import LogZ, disagreement
from esscher.align.objectives import Proposal, get_objective
from esscher.align.parallel import check_parallel
from esscher.align.propose import Scored, propose
from esscher.align.schedule import batch_size, planned_steps
from esscher.align.shared import SharedDraws
from esscher.align.state import Info, State
from esscher.align.steering import steered_target
from esscher.align.train import init, step
from esscher.core.estimate import Estimate
from esscher.core.evidence import Moments
from esscher.core.sample import unreachable
from esscher.core.target import Target
from esscher.errors import ConfigError
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.fingerprint import fingerprint
from esscher.kit.lm.identity import check_same_outcomes
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.ranks import ranks
from esscher.kit.runs.folder import Run
from esscher.kit.runs.history import log_row, resume_run
from esscher.kit.runs.seeds import Streams
from esscher.kit.shards import gathered, is_shared_out, whole

__all__ = ["FitResult", "Watcher", "fit", "fitted_moments"]

PROBE = 512
"""Prior draws looked at before training."""

Watcher = Callable[[int, LanguageModel], Mapping[str, object]]
"""Called with (steps done, current result); what it returns joins the history row of that step."""


@dataclass(frozen=True)
class FitResult:
    """What `fit` found.

    Attributes:
        policy: the fitted model; the one given in is unchanged.
        history: one row per step: numbers, and estimates as {"mean", "se", "n"}.
        log_z: log normaliser of the target from all training draws; None if none counted.
        stopped: why training ended before its last step; None if it did not.
        target: prior and evidence, moments fitted, to the power it was steered to.
        alarm: the first time the training draws' log Z disagreed with the prior's; None if never.
        twist: of the prior under the evidence, learnt where tokens were credited; leads
            `twisted_smc` and `GuidedLaw`.
    """

    policy: LanguageModel
    history: list[dict[str, Any]]
    log_z: Estimate | None
    stopped: str | None
    target: Target
    alarm: str | None = None
    twist: Any = None


def fit(
    policy: LanguageModel,
    target: Target,
    objective: str = "forward_kl",
    *,
    seed: int = 0,
    proposal: Proposal | None = None,
    steps: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    config: FitConfig | None = None,
    prompts: Sequence[str] | None = None,
    run: Run | None = None,
    save_every: int = 25,
    watch: Watcher | None = None,
    watch_every: int = 10,
    on_step: Callable[[int, int, Info, State], None] | None = None,
    shared: SharedDraws | None = None,
) -> FitResult:
    """Train a copy of the policy towards the target.

    In a process group (torchrun) all processes call this alike; they share every batch, and the
    first one watches, logs and saves.

    Args:
        policy: where training starts, usually the prior itself.
        target: prior and evidence; unfitted `Moments` are fitted on prior draws first.
        objective: key of `OBJECTIVES`, or alpha:<number>.
        seed: of every random number.
        proposal: where draws come from; the objective's own choice by default.
        steps: optimiser steps; the policy's recipe by default.
        batch: draws per step; the policy's recipe by default.
        lr: peak learning rate; the policy's recipe by default.
        config: all settings at once, instead of the ones above.
        prompts: prompts to draw contexts from, uniformly; None for prompt-free texts.
        run: where metrics and checkpoints go; a run that has a checkpoint is continued.
        save_every: steps between checkpoints.
        watch: measured every `watch_every` steps and at both ends.
        watch_every: steps between measurements.
        on_step: called with (done, total, info, state) after every step.
        shared: draws of the prior in common with fits that differ in objective and learning rate.

    Raises:
        ConfigError: if a setting is out of range, prompts are empty, policy and prior are laws of
            different texts, or the prior's weights change meanwhile.
        TargetUnreachableError: if none of 512 prior draws satisfies the evidence.
        NumericsError: if evidence, loss or gradient is NaN or infinite.
    """
    if config is None:
        chosen = proposal or "auto"
        config = FitConfig(objective, chosen, steps=steps, batch=batch, lr=lr, seed=seed)
    if prompts is not None and not prompts:
        raise ConfigError("prompts is empty; pass None for prompt-free texts")
    check_same_outcomes(policy, target.prior)
    here = ranks()
    check_parallel(config, batch_size(policy, config), here, prompts=prompts is not None)
    before = _weights_of(target)
    target = fitted_moments(target, config.seed)
    draws = _probe(target, prompts, config.seed)
    probe = draws.log_weight
    state = init(policy.clone(), config, _credit(policy, target, config, probe))
    constant = _constant(target, probe)
    if constant is not None and get_objective(config.objective).minimises is not None:
        warnings.warn(constant, stacklevel=2)
        return FitResult(state.average, [], None, constant, target)
    fixed = config.kl_target is None and prompts is None
    anchor = LogZ().update(draws.log_target - draws.log_q) if fixed else None
    keeper = _Keeper.of(run, save_every, watch, watch_every, on_step)
    advance = partial(step, target=target, config=config, prompts=prompts, shared=shared)
    state, history = _loop(state, config, advance, keeper, anchor)
    if _weights_of(target) != before:
        raise ConfigError(
            "the prior's weights changed during the fit, so that its target did, too; train a "
            "clone of the model that serves as the prior"
        )
    log_z, reached = state.log_z.estimate(), steered_target(target, state.power)
    result = _whole_model(policy, state)
    twist = None if state.credit is None else state.credit.twist
    return FitResult(result, history, log_z, state.stopped, reached, state.alarm, twist)


def _whole_model(policy: LanguageModel, state: State) -> LanguageModel:
    """The result on every process, also where its weights are shared out."""
    if not is_shared_out(state.average.module()):
        return state.average
    result = policy.clone()
    result.module().load_state_dict(gathered(state.average.module().state_dict()))
    return result


def _weights_of(target: Target) -> str | None:
    prior = target.prior
    return fingerprint(prior.module()) if isinstance(prior, LanguageModel) else None


def fitted_moments(target: Target, seed: int) -> Target:
    """The target with its `Moments` fitted on prior draws, or itself where there are none."""
    open_moments = any(isinstance(e, Moments) and e.coefficients is None for e in target.evidence)
    return target.fit_moments(rng=Streams(seed).torch("moments")) if open_moments else target


def _probe(target: Target, prompts: Sequence[str] | None, seed: int) -> Scored:
    """Draws of the prior, before time is spent: reachable, deterministic?

    Raises:
        TargetUnreachableError: if no draw satisfies the evidence.
    """
    rng = Streams(seed).torch("probe")
    law = cast("LanguageModel", target.prior)
    draws = propose(law, target, PROBE, prompts=prompts, group=1, rng=rng)
    weight = draws.log_weight
    if bool((weight == -torch.inf).all()):
        raise unreachable(target, draws.x, draws.context, drawn=len(weight), draws="prior draws")
    again = target.log_weight(draws.x, draws.context)
    if not torch.equal(again, weight):
        i = int((again != weight).nonzero()[0])
        warnings.warn(
            f"the evidence is not deterministic: draw {i} got log-weight {float(weight[i]):.6g}, "
            f"then {float(again[i]):.6g}; the target is then only defined on average",
            stacklevel=3,
        )
    return draws


def _constant(target: Target, weight: Tensor) -> str | None:
    """A sentence if all draws have the same log-weight, so that target and prior agree."""
    if target.prior_power != 1.0 or bool((weight != weight[0]).any()):
        return None
    return (
        f"all {len(weight)} prior draws have log-weight {float(weight[0]):.6g}: as far as they "
        "show, the target is the prior, and there is nothing to train"
    )


def _credit(
    policy: LanguageModel, target: Target, config: FitConfig, weight: Tensor
) -> Credit | None:
    """What credits tokens, where that is wanted and can be.

    Raises:
        ConfigError: if it is demanded and cannot be.
    """
    satisfied = float((weight > -torch.inf).double().mean())
    possible = can_credit(policy, target, satisfied)
    if config.credit == "token" and not possible:
        raise ConfigError(
            "credit='token' needs a model of ours with the prior's tokens, conditions as the only "
            f"evidence, and at least {SOME:.1%} of the prior's draws but not all to satisfy "
            f"them (here {satisfied:.1%}); use credit='sequence'"
        )
    plain = config.objective == "forward_kl" and config.proposal in ("auto", "prior")
    alone = ranks().world == 1
    if config.credit == "sequence" or not possible or not plain or not alone:
        return None
    return Credit.start(cast("SmallLM", target.prior), satisfied)


@dataclass(frozen=True)
class _Keeper:
    """Where a fit's numbers and checkpoints go; see `fit` for the fields.

    Attributes:
        saves: whether the first process has a run.
        watches: whether it has a watcher.
    """

    run: Run | None
    save_every: int
    watch: Watcher | None
    watch_every: int
    on_step: Callable[[int, int, Info, State], None] | None
    saves: bool
    watches: bool

    @classmethod
    def of(
        cls,
        run: Run | None,
        save_every: int,
        watch: Watcher | None,
        watch_every: int,
        on_step: Callable[[int, int, Info, State], None] | None,
    ) -> _Keeper:
        """What every process keeps: the first one what is asked for, the others nothing."""
        here = ranks()
        saves, watches = here.of_first((run is not None, watch is not None))
        if not here.first:
            run = watch = on_step = None
        return cls(run, save_every, watch, watch_every, on_step, saves, watches)

    def watched(self, state: State, *, last: bool) -> dict[str, object]:
        """What the watcher measures now, if it is time."""
        due = state.done % self.watch_every == 0 or last
        if not (self.watches and due):
            return {}
        with whole(state.average.module()):
            return {} if self.watch is None else dict(self.watch(state.done, state.average))

    def save(self, state: State, *, last: bool) -> None:
        """Write a checkpoint, if it is time."""
        if self.saves and (state.done % self.save_every == 0 or last):
            found = state.state_dict()
            if self.run is not None:
                self.run.save(state.done, found)

    def resume(self, state: State) -> list[dict[str, Any]]:
        """Continue the run's newest checkpoint, or make its first; returns the rows so far."""
        saved, rows = resume_run(self.run, state.state_dict())
        saved, rows = ranks().of_first((saved, rows))
        if saved is not None:
            state.load_state_dict(saved)
        return rows


def _loop(
    state: State,
    config: FitConfig,
    advance: Callable[[State], tuple[State, Info]],
    keeper: _Keeper,
    anchor: LogZ | None,
) -> tuple[State, list[dict[str, Any]]]:
    total = planned_steps(state.policy, config)
    history = keeper.resume(state)
    if not history and keeper.watches:
        log_row(history, keeper.run, 0, keeper.watched(state, last=False))
    while state.done < total and state.stopped is None:
        state, info = advance(state)
        state.stopped = _explosion(info, state, config)
        if state.alarm is None and anchor is not None:
            state.alarm = disagreement(state.log_z, anchor, state.done)
            if state.alarm is not None:
                warnings.warn(state.alarm, stacklevel=3)
        last = state.done == total or state.stopped is not None
        row = {**info._asdict(), "log_z": state.log_z.estimate()}
        log_row(history, keeper.run, state.done, row | keeper.watched(state, last=last))
        keeper.save(state, last=last)
        if keeper.on_step is not None:
            keeper.on_step(state.done, total, info, state)
    if state.stopped is not None:
        if state.best.weights is not None:
            state.average.module().load_state_dict(state.best.weights)
        warnings.warn(state.stopped, stacklevel=3)
    return state, history


def _explosion(info: Info, state: State, config: FitConfig) -> str | None:
    if info.kl_prior.mean <= config.kl_cap or not math.isfinite(config.kl_cap):
        return None
    kept = state.best.step if state.best.weights else state.done
    return (
        f"KL(π‖p0) reached {info.kl_prior.mean:.3g} nats at step {state.done}, above kl_cap="
        f"{config.kl_cap:g}: training stopped and the model of step {kept} kept; lower the "
        "learning rate, or raise kl_cap"
    )
