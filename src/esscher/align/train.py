"""One training step towards a target: `init` and `step`, for every objective alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from esscher.align.best import divergence_terms
from esscher.align.by_token import descend_tokens, open_models
from esscher.align.config import FitConfig
from esscher.align.credit import Credit, learn
from esscher.align.critic import Critic, descend_clipped
from esscher.align.normaliser import LearntLogZ, LogZ, log_z_of, updated
from esscher.align.objectives import Batch, Objective, Proposal, get_objective
from esscher.align.parallel import draw_parts, joined_rows, largest, parts_of, rows_of
from esscher.align.paths import descend_paths
from esscher.align.propose import HalfAndHalf, Scored, floored, propose
from esscher.align.schedule import batch_size, learning_rate, planned_steps
from esscher.align.shared import SharedDraws
from esscher.align.state import Info, State
from esscher.align.steering import steered, steered_target
from esscher.core.estimate import from_samples
from esscher.core.importance import effective_sample_size
from esscher.core.law import Law
from esscher.core.target import Target
from esscher.errors import NumericsError
from esscher.kit.lm.averaging import update_average
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.clipped import clipped_step
from esscher.kit.lm.engine import taken_gap
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.scoring import gather
from esscher.kit.ranks import ranks
from esscher.kit.runs.seeds import Streams
from esscher.kit.shards import forget_weights, hand_over_gradients, share_out, whole

__all__ = ["init", "step"]

LOG_Z_LR = 0.1
"""Peak learning rate of a learnt normaliser, nats; it follows the policy's schedule."""
KEPT_GRAPHS = 2**29
"""Most bytes of autograd graphs held at once instead of scoring a batch twice."""

Chunks = Iterable[tuple[Tensor, Tensor]]
"""(index [b], log π [b] with graph) pairs that cover a batch."""


def init(policy: LanguageModel, config: FitConfig, credit: Credit | None = None) -> State:
    """A fresh state; the policy is trained in place, with tokens credited if there is a credit."""
    average = policy.clone() if config.average > 0 else policy
    blank = None
    if config.shard and ranks().world > 1:
        blank = policy.clone()
        forget_weights(blank.module())
        for module in dict.fromkeys((policy.module(), average.module())):
            share_out(module)
    parameters = [p for p in policy.module().parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=0.0, betas=(0.9, 0.98), fused=True)
    objective = get_objective(config.objective)
    critic = None
    if objective.critic:
        critic = Critic.start(open_models(policy.clone(), policy, objective.name)[0])
    return State(policy, average, optimiser, credit=credit, critic=critic, blank=blank)


def step(
    state: State,
    target: Target,
    config: FitConfig,
    prompts: Sequence[str] | None = None,
    shared: SharedDraws | None = None,
) -> tuple[State, Info]:
    """Draw a batch, estimate the objective's gradient, and move the policy.

    The state is changed in place and returned. Draws of the prior may be shared with other fits.

    Raises:
        NumericsError: if the loss or its gradient is not finite.
    """
    objective = get_objective(config.objective)
    target = steered_target(target, state.power)
    law = _law(state, target, objective, config)
    replayed = _kind(objective, config) == "replay"
    lr, pace = learning_rate(state, config)
    with whole(state.policy.module()):
        draws = _drawn(state, law, target, config, prompts=prompts, shared=shared)
        gap = largest(taken_gap(state.policy, target.prior), ranks())
        # A target that moves has a normaliser of its own at every step.
        before = state.log_z if config.kl_target is None else LogZ()
        log_w = draws.log_target - draws.log_q
        state.log_z = before.update(log_w)
        if draws.context is not None:
            state.context_log_z = updated(state.context_log_z, log_w, draws.context)
        if replayed:
            draws = _with_past(state, draws, config)
        fresh = law is state.policy and not replayed
        state.optimiser.zero_grad(set_to_none=True)
        if state.credit is not None:
            total = planned_steps(state.policy, config)
            loss, seen, log_pi = _credited(state, target, draws, total)
        elif objective.per_token:
            loss, log_pi = _by_token(state, target, draws, config, lr)
            seen = draws
        else:
            loss, log_pi = _whole(state, draws, config, pace, known=fresh)
            seen = draws
        hand_over_gradients(state.policy.module())
    grad_norm = _update(state, config, lr)
    _judge(state, seen, log_pi, config, on_policy=fresh)
    adaptive = state.credit is None and _kind(objective, config) == "adaptive"
    moved = _reconsider(state, seen, log_pi, config, adaptive=adaptive)
    info = _info(log_pi, seen, loss=loss, grad_norm=grad_norm, lr=lr)
    if draws.context is not None:
        missing = [c for c in set(draws.context) if state.context_log_z[c].value == -math.inf]
        info = info._replace(unseen_contexts=len(missing))
    if config.kl_target is not None:
        state.power = steered(state.power, info.kl_prior.mean, config.kl_target)
    return state, info._replace(moved=moved, engine_gap=gap)


def _drawn(
    state: State,
    law: Law,
    target: Target,
    config: FitConfig,
    *,
    prompts: Sequence[str] | None,
    shared: SharedDraws | None,
) -> Scored:
    """The step's draws; of the prior they may be shared with other fits."""
    replayed = _kind(get_objective(config.objective), config) == "replay"
    batch = batch_size(state.policy, config) // (2 if replayed else 1)
    here = ranks()
    parts = parts_of(config, here)

    def part(*number: int) -> Scored:
        rng = Streams(config.seed).torch("draws", state.done, *number)
        return propose(law, target, batch // parts, prompts=prompts, group=config.group, rng=rng)

    if parts > 1:
        return draw_parts(part, parts, here)
    if shared is not None and law is target.prior:
        return shared.get(f"{batch}-{state.done}", Scored, part)
    return part()


def _whole(
    state: State, draws: Scored, config: FitConfig, pace: float, *, known: bool
) -> tuple[float, Tensor]:
    """Add the gradient of a loss over whole draws: its value, and log π [B]."""
    objective, here = get_objective(config.objective), ranks()
    own = rows_of(len(draws.log_q), here)
    mine = draws if here.world == 1 else draws.take(own)
    log_pi, chunks = _score(state.policy, mine, known=known)
    log_pi = joined_rows(log_pi, len(draws.log_q), here)
    z = _learnt(state, draws) if objective.learns_log_z else _log_z(state, draws)
    loss, slope, slope_z = _slope(objective, draws, log_pi, z, config.floor)
    _descend(chunks, slope[own])
    here.add_gradients(state.policy.module().parameters())
    if objective.learns_log_z:
        _move_log_z(state, draws, slope_z, LOG_Z_LR * pace)
    return loss, log_pi


def _credited(
    state: State, target: Target, draws: Scored, steps: int
) -> tuple[float, Scored, Tensor]:
    """Add the gradient of one batch: the twist's loss, the draws the policy saw, their log π."""
    z = _log_z(state, draws).exp()
    policy, prior = cast("SmallLM", state.policy), cast("SmallLM", target.prior)
    credit = cast("Credit", state.credit)
    loss, rows, log_pi = learn(credit, policy, prior, draws, z=z, done=state.done, steps=steps)
    return loss, draws.take(rows), log_pi


def _by_token(
    state: State, target: Target, draws: Scored, config: FitConfig, lr: float
) -> tuple[float, Tensor]:
    """Add the gradient of a loss over tokens: its value, and log π [B] before any update."""
    objective = get_objective(config.objective)
    policy, prior = open_models(state.policy, target.prior, objective.name)
    if objective.name == "subtb":
        return descend_paths(policy, prior, target, draws, config.floor)
    if state.critic is None:
        return descend_tokens(objective.loss, policy, prior, draws, config.floor)

    def move() -> None:
        _move(state, config, lr)
        state.optimiser.zero_grad(set_to_none=True)

    return descend_clipped(
        state.critic, policy, prior, draws, floor=config.floor, lr=lr, clip=config.clip, move=move
    )


def _kind(objective: Objective, config: FitConfig) -> Proposal:
    return objective.proposal if config.proposal == "auto" else config.proposal


def _log_z(state: State, draws: Scored) -> Tensor:
    """Log Z of the draws [B], by prompt where there are prompts, as far as it is known.

    While no draw was satisfied, 0 leaves a batch its direction.
    """
    if draws.context is None:
        known = torch.full_like(draws.log_q, state.log_z.value)
    else:
        known = log_z_of(state.context_log_z, draws.context)
    return torch.where(known.isfinite(), known, 0.0)


def _learnt(state: State, draws: Scored) -> Tensor:
    """The trained log Z of the draws [B]; one that is not there begins as the estimate."""
    names = draws.context or [""] * len(draws.log_q)
    for name, value in zip(names, _log_z(state, draws).tolist(), strict=True):
        state.learnt_log_z.setdefault(name, LearntLogZ(value))
    return torch.tensor([state.learnt_log_z[name].value for name in names], dtype=torch.float64)


def _move_log_z(state: State, draws: Scored, slope: Tensor, lr: float) -> None:
    """A step of every trained log Z, whose derivatives by draw are the slope [B]."""
    names = draws.context or [""] * len(slope)
    total: dict[str, float] = {}
    for name, value in zip(names, slope.tolist(), strict=True):
        total[name] = total.get(name, 0.0) + value
    for name, value in total.items():
        state.learnt_log_z[name] = state.learnt_log_z[name].moved(value, lr)


def _law(state: State, target: Target, objective: Objective, config: FitConfig) -> Law:
    if state.credit is not None:
        return state.credit.law(cast("SmallLM", target.prior))
    kind = _kind(objective, config)
    if kind in ("on_policy", "replay"):
        return state.policy
    if kind == "adaptive" and state.proposal is not None:
        return state.proposal
    prior = cast("LanguageModel", target.prior)
    return HalfAndHalf(prior, state.policy) if kind == "mixture" else prior


def _with_past(state: State, draws: Scored, config: FitConfig) -> Scored:
    """The draws and as many of past steps, which they then join."""
    rng = Streams(config.seed).torch("replay", state.done)
    past = state.replay.sample(len(draws.log_q), rng)
    state.replay.add(draws)
    return draws if past is None else Scored.join([draws, past])


def _score(policy: LanguageModel, draws: Scored, *, known: bool) -> tuple[Tensor, Chunks]:
    """Log π of the draws, and the chunks to differentiate.

    The slope of most objectives depends on log π of the whole batch. Where all graphs fit into
    `KEPT_GRAPHS` one pass gives both; else the chunks are computed again, one at a time.
    """
    x, context = draws.x, draws.context
    if known or policy.graph_bytes(x, context=context) > KEPT_GRAPHS:
        log_pi = draws.log_q if known else policy.log_prob(x, context=context)
        return log_pi, policy.log_prob_chunks(x, context=context)
    with torch.enable_grad():
        chunks = list(policy.log_prob_chunks(x, context=context))
    return gather(chunks, len(draws.log_q)), chunks


def _slope(
    objective: Objective, draws: Scored, log_pi: Tensor, log_z: Tensor, floor: float
) -> tuple[float, Tensor, Tensor]:
    """Loss and its derivatives in log π [B], all an objective tells the network, and in log Z [B].

    Objectives that do not train log Z have none in it.
    """
    weight = floored(draws.log_weight, floor) if objective.needs_floor else draws.log_weight
    leaf = log_pi.detach().clone().requires_grad_()
    value = log_z.detach().clone().requires_grad_(objective.learns_log_z)
    target = draws.prior_power * draws.log_prior + weight
    seen = Batch(leaf, draws.log_q, target, weight, value, draws.groups, draws.copies)
    with torch.enable_grad():
        loss = objective.loss(seen)
        wanted = [leaf, value] if objective.learns_log_z else [leaf]
        slope, *slope_z = torch.autograd.grad(loss, wanted)
    bad = ~torch.isfinite(slope)
    if not bool(torch.isfinite(loss)) or bool(bad.any()):
        i = int(bad.nonzero()[0]) if bool(bad.any()) else 0
        raise NumericsError(
            f"objective {objective.name}: loss {float(loss.detach())} is not finite (sample {i}: "
            f"log π={float(leaf[i]):.3g}, log q={float(draws.log_q[i]):.3g}, log-weight="
            f"{float(weight[i]):.3g}); lower the learning rate or use objective='js'"
        )
    return float(loss.detach()), slope, slope_z[0] if slope_z else torch.zeros_like(slope)


def _descend(chunks: Chunks, slope: Tensor) -> None:
    """Add the gradient of the loss whose derivative in log π is the slope [B]."""
    with torch.enable_grad():
        for index, log_prob in chunks:
            part = slope[index]
            if bool((part != 0).any()):
                torch.autograd.backward((part * log_prob).sum())


def _move(state: State, config: FitConfig, lr: float) -> float:
    return clipped_step(state.optimiser, lr=lr, clip=config.clip, step=state.done)


def _update(state: State, config: FitConfig, lr: float) -> float:
    """Move and average; returns the gradient's norm before clipping."""
    norm = _move(state, config, lr)
    state.done += 1
    if state.average is not state.policy:
        average, module = state.average.module(), state.policy.module()
        update_average(average, module, config.average, state.done)
    return norm


def _judge(
    state: State, draws: Scored, log_pi: Tensor, config: FitConfig, *, on_policy: bool
) -> None:
    """Remember the model if the last `check_every` steps were the closest to the target."""
    if state.log_z.log_sum > -math.inf:
        log_target = draws.log_target_floored(config.floor) if on_policy else draws.log_target
        log_z = _log_z(state, draws)
        terms = divergence_terms(log_pi, draws.log_q, log_target, log_z, on_policy=on_policy)
        state.best.add(terms)
    if state.done % config.check_every == 0:
        state.best.close(state.average.module(), state.done)


def _reconsider(
    state: State, draws: Scored, log_pi: Tensor, config: FitConfig, *, adaptive: bool
) -> bool:
    """Move the proposal to the policy once KL(p*‖π) is surely below KL(p*‖q).

    The difference E_p*[log π - log q] is estimated on the training draws, each scored before the
    policy was trained on it (Khalifa et al. 2021, algorithm 1, with a two-standard-error margin).
    """
    if not adaptive or state.log_z.log_sum == -math.inf:
        return False
    d = (draws.log_target - draws.log_q - _log_z(state, draws)).exp() * (log_pi - draws.log_q)
    n, total, squares = state.drift
    state.drift = (n + len(d), total + float(d.sum()), squares + float((d * d).sum()))
    if state.done % config.check_every:
        return False
    n, total, squares = state.drift
    state.drift = (0.0, 0.0, 0.0)
    mean = total / n
    se = math.sqrt(max(0.0, squares / n - mean * mean) / n)
    if mean <= 2 * se or se == 0.0:
        return False
    state.proposal = state.copy_of_policy()
    return True


def _info(log_pi: Tensor, draws: Scored, *, loss: float, grad_norm: float, lr: float) -> Info:
    log_q, log_weight = draws.log_q, draws.log_weight
    alive = log_weight > -torch.inf
    log_w = draws.log_target - log_q
    ess = effective_sample_size(log_w) / len(log_w) if bool(alive.any()) else 0.0
    return Info(
        loss=loss,
        satisfied=float(alive.double().mean()),
        log_weight=float(log_weight[alive].mean()) if bool(alive.any()) else None,
        ess=ess,
        kl_prior=from_samples((log_pi - log_q).exp() * (log_pi - draws.log_prior), unit="nats"),
        grad_norm=grad_norm,
        lr=lr,
        unseen_contexts=0,
        moved=False,
        engine_gap=None,
    )
