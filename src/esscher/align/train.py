"""One training step towards a target: `init` and `step`, for every objective alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from esscher.align.best import Best, divergence_terms
from esscher.align.config import FitConfig
from esscher.align.credit import HASTE, Credit, first_followed, learn
from esscher.align.normaliser import LearntLogZ, LogZ
from esscher.align.objectives import Batch, Objective, Proposal, get_objective
from esscher.align.propose import HalfAndHalf, Scored, floored, propose
from esscher.align.shared import SharedDraws
from esscher.core.estimate import Estimate, from_samples
from esscher.core.importance import effective_sample_size
from esscher.core.law import Law
from esscher.core.target import Target
from esscher.errors import NumericsError
from esscher.kit.lm.averaging import update_average
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.scoring import gather
from esscher.kit.runs.seeds import Streams

__all__ = ["Info", "State", "init", "planned_steps", "step"]

LOG_Z_LR = 0.1
"""Peak learning rate of a learnt normaliser, nats; it follows the policy's schedule."""
KEPT_GRAPHS = 2**29
"""Most bytes of autograd graphs held at once instead of scoring a batch twice."""

Chunks = Iterable[tuple[Tensor, Tensor]]
"""(index [b], log π [b] with graph) pairs that cover a batch."""


@dataclass
class State:
    """All that the next step needs; random numbers are named by the step, so none are stored.

    Attributes:
        policy: the model being trained, changed in place.
        average: moving average of its weights, the result; the policy itself without averaging.
        optimiser: Adam over the policy's parameters.
        proposal: the law that draws batches where it is neither prior nor policy.
        log_z: running estimate from every draw so far.
        learnt_log_z: the normaliser as a parameter, for objectives that train it.
        drift: sums (n, Σd, Σd²) of d = w̃ (log π - log q) since the proposal's last check.
        best: the result if training has to be stopped.
        credit: what learns to credit tokens; None where whole sequences are credited.
        done: steps taken.
        stopped: why training ended before its last step.
    """

    policy: LanguageModel
    average: LanguageModel
    optimiser: torch.optim.Optimizer
    proposal: LanguageModel | None = None
    log_z: LogZ = field(default_factory=LogZ)
    learnt_log_z: LearntLogZ | None = None
    drift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    best: Best = field(default_factory=Best)
    credit: Credit | None = None
    done: int = 0
    stopped: str | None = None

    def state_dict(self) -> dict[str, Any]:
        """Everything as nested tensors and numbers."""
        return {
            "policy": self.policy.module().state_dict(),
            "average": self.average.module().state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "proposal": None if self.proposal is None else self.proposal.module().state_dict(),
            "log_z": list(self.log_z),
            "learnt_log_z": None if self.learnt_log_z is None else list(self.learnt_log_z),
            "drift": list(self.drift),
            "best": self.best.state_dict(),
            "credit": None if self.credit is None else self.credit.state_dict(),
            "done": self.done,
            "stopped": self.stopped,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.policy.module().load_state_dict(saved["policy"])
        self.average.module().load_state_dict(saved["average"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.proposal = None
        if saved["proposal"] is not None:
            self.proposal = self.policy.clone()
            self.proposal.module().load_state_dict(saved["proposal"])
        self.log_z = LogZ(*saved["log_z"])
        learnt = saved["learnt_log_z"]
        self.learnt_log_z = None if learnt is None else LearntLogZ(*learnt)
        self.drift = cast("tuple[float, float, float]", tuple(saved["drift"]))
        self.best = Best.of(saved["best"])
        if self.credit is not None:
            self.credit.load_state_dict(saved["credit"])
        self.done = int(saved["done"])
        self.stopped = saved["stopped"]


class Info(NamedTuple):
    """What a step saw, on its own draws.

    Attributes:
        loss: value of the objective's loss; its gradient, not its value, is the estimate.
        satisfied: share of draws the evidence does not rule out.
        log_weight: mean evidence log-weight of those draws, nats.
        ess: effective sample size of the weights P/q, as a share of the batch.
        kl_prior: KL(π‖p0), importance-weighted where q is not π, nats.
        grad_norm: before clipping.
        lr: learning rate used.
        moved: whether the adaptive proposal was set to the current policy after this step.
    """

    loss: float
    satisfied: float
    log_weight: float | None
    ess: float
    kl_prior: Estimate
    grad_norm: float
    lr: float
    moved: bool


def init(policy: LanguageModel, config: FitConfig, credit: Credit | None = None) -> State:
    """A fresh state; the policy is trained in place, with tokens credited if there is a credit."""
    parameters = [p for p in policy.module().parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=0.0, betas=(0.9, 0.98), fused=True)
    average = policy.clone() if config.average > 0 else policy
    return State(policy, average, optimiser, credit=credit)


def planned_steps(policy: LanguageModel, config: FitConfig) -> int:
    """Steps of a fit: the configured number, or what suits the policy."""
    return policy.recipe.steps if config.steps is None else config.steps


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
    law = _law(state, target, objective, config)
    batch = _batch_size(state, objective, config)

    def draw() -> Scored:
        rng = Streams(config.seed).torch("draws", state.done)
        return propose(law, target, batch, prompts=prompts, group=config.group, rng=rng)

    if shared is not None and law is target.prior:
        draws = shared.get(f"{batch}-{state.done}", Scored, draw)
    else:
        draws = draw()
    state.log_z = state.log_z.update(draws.log_target - draws.log_q)
    steps = planned_steps(state.policy, config)
    late = 0 if state.credit is None else first_followed(steps, batch)
    peak = _peak(state, config, late / steps)
    lr = _rate(state.done - late, steps - late, peak, config.warmup)
    state.optimiser.zero_grad(set_to_none=True)
    if state.credit is not None:
        loss, seen, log_pi = _credited(state, target, draws, steps)
    else:
        log_pi, chunks = _score(state.policy, draws, known=law is state.policy)
        if objective.learns_log_z and state.learnt_log_z is None:
            state.learnt_log_z = LearntLogZ(_known(state.log_z))
        z = _known(state.log_z) if state.learnt_log_z is None else state.learnt_log_z.value
        loss, slope, slope_z = _slope(objective, draws, log_pi, z, config.floor)
        _descend(chunks, slope)
        if state.learnt_log_z is not None:
            state.learnt_log_z = state.learnt_log_z.moved(slope_z, LOG_Z_LR * lr / peak)
        seen = draws
    grad_norm = _update(state, config, lr)
    _judge(state, seen, log_pi, config, on_policy=law is state.policy)
    adaptive = state.credit is None and _kind(objective, config) == "adaptive"
    moved = _reconsider(state, seen, log_pi, config, adaptive=adaptive)
    info = _info(log_pi, seen, loss=loss, grad_norm=grad_norm, lr=lr)
    return state, info._replace(moved=moved)


def _credited(
    state: State, target: Target, draws: Scored, steps: int
) -> tuple[float, Scored, Tensor]:
    """Add the gradient of one batch: the twist's loss, the draws the policy saw, their log π."""
    z = math.exp(state.log_z.value) if state.log_z.log_sum > -math.inf else 1.0
    policy, prior = cast("SmallLM", state.policy), cast("SmallLM", target.prior)
    credit = cast("Credit", state.credit)
    loss, rows, log_pi = learn(credit, policy, prior, draws, z=z, done=state.done, steps=steps)
    return loss, draws.take(rows), log_pi


def _kind(objective: Objective, config: FitConfig) -> Proposal:
    return objective.proposal if config.proposal == "auto" else config.proposal


def _known(log_z: LogZ) -> float:
    """Log Z as far as it is known; while no draw was satisfied, 0 leaves a batch its direction."""
    return log_z.value if math.isfinite(log_z.value) else 0.0


def _law(state: State, target: Target, objective: Objective, config: FitConfig) -> Law:
    kind = _kind(objective, config)
    if kind == "on_policy":
        return state.policy
    if kind == "adaptive" and state.proposal is not None:
        return state.proposal
    prior = cast("LanguageModel", target.prior)
    return HalfAndHalf(prior, state.policy) if kind == "mixture" else prior


def _batch_size(state: State, objective: Objective, config: FitConfig) -> int:
    if config.batch is not None:
        return config.batch
    recipe = state.policy.recipe
    return recipe.noisy_batch if objective.noisy else recipe.batch


def _peak(state: State, config: FitConfig, waited: float) -> float:
    recipe = state.policy.recipe
    if config.lr is not None:
        return config.lr
    if state.credit is not None:
        return recipe.token_lr * (1 + HASTE * waited)
    return recipe.floored_lr if get_objective(config.objective).needs_floor else recipe.lr


def _rate(done: int, steps: int, peak: float, warmup: float) -> float:
    """Learning rate: linear warm-up over a share of the steps, then half a cosine towards zero.

    Before step 0 it is 0.
    """
    rising = math.ceil(warmup * steps)
    if done < 0:
        return 0.0
    if done < rising:
        return peak * (done + 1) / rising
    return peak * 0.5 * (1 + math.cos(math.pi * (done - rising) / max(1, steps - rising)))


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
    objective: Objective, draws: Scored, log_pi: Tensor, log_z: float, floor: float
) -> tuple[float, Tensor, float]:
    """Loss and its derivatives in log π [B], all an objective tells the network, and in log Z."""
    weight = floored(draws.log_weight, floor) if objective.needs_floor else draws.log_weight
    leaf = log_pi.detach().clone().requires_grad_()
    value = torch.tensor(log_z, dtype=torch.float64, requires_grad=objective.learns_log_z)
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
    return float(loss.detach()), slope, float(slope_z[0]) if slope_z else 0.0


def _descend(chunks: Chunks, slope: Tensor) -> None:
    """Add the gradient of the loss whose derivative in log π is the slope [B]."""
    with torch.enable_grad():
        for index, log_prob in chunks:
            part = slope[index]
            if bool((part != 0).any()):
                torch.autograd.backward((part * log_prob).sum())


def _update(state: State, config: FitConfig, lr: float) -> float:
    """Clip, step and average; returns the gradient's norm before clipping.

    A rate of 0 leaves the optimiser as it is.
    """
    parameters = list(state.policy.module().parameters())
    norm = float(nn.utils.clip_grad_norm_(parameters, config.clip))
    if not math.isfinite(norm):
        raise NumericsError(
            f"the gradient's norm is {norm} at step {state.done}; lower the learning rate"
        )
    for group in state.optimiser.param_groups:
        group["lr"] = lr
    if lr > 0:
        state.optimiser.step()
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
        log_z = state.log_z.value
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
    d = (draws.log_target - draws.log_q - state.log_z.value).exp() * (log_pi - draws.log_q)
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
    state.proposal = state.policy.clone()
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
        moved=False,
    )
