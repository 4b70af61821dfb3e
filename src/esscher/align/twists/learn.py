"""Learn a twist of the prior from its own draws, by any of `TWIST_LOSSES`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from esscher.align.normaliser import LogZ
from esscher.align.propose import HalfAndHalf, Scored, propose
from esscher.align.twists.losses import TWIST_LOSSES, TwistBatch
from esscher.core.law import Law
from esscher.core.sample import unreachable
from esscher.core.target import Target
from esscher.errors import ConfigError
from esscher.kit.lm.clipped import clipped_step
from esscher.kit.lm.guided import GuidedLaw
from esscher.kit.lm.pretrain import cosine_lr
from esscher.kit.lm.scoring import Pass
from esscher.kit.lm.token_model import TokenModel
from esscher.kit.lm.twist import log_psi
from esscher.kit.runs.seeds import Streams

__all__ = [
    "TwistConfig",
    "TwistInfo",
    "TwistState",
    "learn_twist",
    "open_prior",
    "twist_init",
    "twist_step",
]


@dataclass(frozen=True)
class TwistConfig:
    """How a twist is learnt."""

    method: str = "ctl"
    """Key of `TWIST_LOSSES`: ctl, fudge, sixo or path_consistency."""
    steps: int = 200
    """Optimiser steps."""
    batch: int = 256
    """Draws per step."""
    proposal: Literal["prior", "mixture"] = "mixture"
    """Law that draws them: the prior, or half of them the prior led by the twist as it is, which
    meets rare evidence more often."""
    lr: float = 1e-3
    """Peak learning rate of Adam."""
    warmup: int = 10
    """Steps of linear warm-up before the cosine decay."""
    clip: float = 1.0
    """Largest gradient norm."""
    floor: float = 5.0
    """Nats: log φ of a draw the evidence rules out, in path_consistency."""
    pilot: int = 2048
    """Prior draws that give the first estimate of Z."""
    seed: int = 0
    """One integer for every random number."""

    def __post_init__(self) -> None:
        if self.method not in TWIST_LOSSES:
            near = difflib.get_close_matches(self.method, TWIST_LOSSES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"unknown twist method {self.method!r}{hint} Known: {', '.join(TWIST_LOSSES)}"
            )
        if self.proposal not in ("prior", "mixture"):
            raise ConfigError(f"proposal must be 'prior' or 'mixture', got {self.proposal!r}")
        for name, low in (("steps", 1), ("batch", 2), ("pilot", 1), ("warmup", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("lr", "clip", "floor"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be positive and finite, got {getattr(self, name)}")


@dataclass
class TwistState:
    """The twist, its optimiser and the running estimate of Z; random numbers go by the step."""

    twist: Any
    optimiser: torch.optim.Optimizer
    log_z: LogZ
    done: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything as nested tensors and numbers."""
        return {
            "twist": self.twist.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "log_z": list(self.log_z),
            "done": self.done,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.twist.load_state_dict(saved["twist"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.log_z = LogZ(*saved["log_z"])
        self.done = int(saved["done"])


class TwistInfo(NamedTuple):
    """What a step saw.

    Attributes:
        loss: of the method, on its own draws.
        grad_norm: before clipping.
        lr: learning rate used.
    """

    loss: float
    grad_norm: float
    lr: float


def learn_twist(
    target: Target,
    config: TwistConfig = TwistConfig(),
    *,
    start: nn.Module | None = None,
    on_step: Callable[[int, int, TwistInfo], None] | None = None,
) -> Any:
    """The twist of a target's evidence under its prior, for `draw_smc` and guided decoding.

    Args:
        target: prior and evidence, moments fitted; its prior must be open token by token.
        config: settings.
        start: a twist of this prior to go on from, such as that of a fit; unchanged.
        on_step: called with (done, total, info) after every step.

    Returns:
        An `nn.Module` with the calls of `TwistModule`.

    Raises:
        ConfigError: if the prior's next-token laws are closed, or it is tempered.
        TargetUnreachableError: if no pilot draw satisfies the evidence.
        NumericsError: if the loss or its gradient is not finite.
    """
    state = twist_init(target, config, start)
    while state.done < config.steps:
        state, info = twist_step(state, target, config)
        if on_step is not None:
            on_step(state.done, config.steps, info)
    return state.twist


def twist_init(target: Target, config: TwistConfig, start: nn.Module | None = None) -> TwistState:
    """The twist to begin with: it gives every prefix the worth Z, unless it goes on from another.

    See `learn_twist` for what is raised.
    """
    prior = open_prior(target)
    draws = _draw(target, prior, config.pilot, Streams(config.seed).torch("twist-pilot"))
    if bool((draws.log_weight == -torch.inf).all()):
        raise unreachable(target, draws.x, None, drawn=config.pilot, draws="prior draws")
    log_z = LogZ().update(draws.log_weight)
    top = float(draws.log_weight.max())
    # ψ is a probability where φ is 0 or 1; a share of 1 would leave nothing to learn.
    bounded = top <= 0.0 and log_z.value < 0.0
    twist = prior.twist(bounded=bounded)
    twist.fill(log_z.value)
    if start is not None:
        twist.load_state_dict(start.state_dict())
    optimiser = torch.optim.Adam(twist.parameters(), lr=0.0, betas=(0.9, 0.98))
    return TwistState(twist, optimiser, log_z)


def open_prior(target: Target) -> TokenModel:
    """The target's prior, if its next-token laws are open.

    Raises:
        ConfigError: if they are not, or the prior is tempered.
    """
    if not isinstance(target.prior, TokenModel):
        raise ConfigError(
            f"a twist needs a prior whose next-token laws are open, got a "
            f"{type(target.prior).__name__}"
        )
    if target.prior_power != 1.0:
        raise ConfigError(f"a twist needs the prior at power 1, got {target.prior_power:g}")
    return target.prior


def _draw(target: Target, law: Law, n: int, rng: torch.Generator) -> Scored:
    return propose(law, target, n, prompts=None, group=1, rng=rng)


def twist_step(
    state: TwistState, target: Target, config: TwistConfig
) -> tuple[TwistState, TwistInfo]:
    """Draw a batch and move the twist; the state is changed in place and returned.

    Raises:
        NumericsError: if the loss or its gradient is not finite.
    """
    prior = open_prior(target)
    rng = Streams(config.seed).torch("twist", state.done)
    led = HalfAndHalf(prior, GuidedLaw(prior, state.twist))
    draws = _draw(target, led if config.proposal == "mixture" else prior, config.batch, rng)
    state.log_z = state.log_z.update(draws.log_weight + draws.log_prior - draws.log_q)
    lr = cosine_lr(state.done, config.steps, config.lr, config.warmup, 0.02)
    state.optimiser.zero_grad(set_to_none=True)
    norm = math.nan
    # Without one draw that satisfies the evidence, nothing is known of p*.
    loss = torch.zeros(())
    if bool((draws.log_weight > -torch.inf).any()):
        loss = _differentiate(state.twist, prior, draws, state.log_z.value, config)
        norm = clipped_step(
            state.optimiser, lr=lr, clip=config.clip, step=state.done, loss=float(loss)
        )
    state.done += 1
    return state, TwistInfo(float(loss), norm, lr)


def _differentiate(
    twist: Any, prior: TokenModel, draws: Scored, log_z: float, config: TwistConfig
) -> Tensor:
    """The loss on a batch; its gradient is added to the twist's.

    The slope in log ψ of every prefix comes first, as the losses weigh draws against each other;
    the passes through the network then follow it one at a time.
    """
    log_phi = draws.log_weight
    if config.method == "path_consistency":
        log_phi = log_phi.clamp(min=-config.floor)
    parts = list(prior.passes(draws.x))
    seen = draws._replace(log_weight=log_phi)
    batch = _look(twist, prior, parts, seen, log_z)
    with torch.enable_grad():
        leaf = batch.log_psi.requires_grad_()
        loss = TWIST_LOSSES[config.method](batch._replace(log_psi=leaf))
        (slope,) = torch.autograd.grad(loss, leaf)
        for part in parts:
            inside = batch.inside[part.rows]
            chosen = _log_psi_of(twist, part)
            torch.autograd.backward((slope[part.rows][inside].to(chosen) * chosen).sum())
    return loss.detach()


def _log_psi_of(twist: Any, part: Pass) -> Tensor:
    """Log ψ [N] of a pass's tokens, given what came before each."""
    states = twist.states(part.ids, part.mask)
    return log_psi(twist.values_of(states, part.target), bounded=twist.bounded)


@torch.no_grad()
def _look(
    twist: Any,
    prior: TokenModel,
    parts: list[Pass],
    draws: Scored,
    log_z: float,
) -> TwistBatch:
    """What the twist says now of every prefix, [B, T]."""
    log_phi = draws.log_weight
    n, width = len(log_phi), max(int(part.lengths.max()) for part in parts)
    psi = log_phi[:, None].repeat(1, width)
    value = log_phi[:, None].repeat(1, width + 1)
    inside = torch.zeros(n, width, dtype=torch.bool)
    for part in parts:
        here = torch.arange(width) < part.lengths[:, None]
        inside[part.rows] = here
        row, t = here.nonzero(as_tuple=True)
        states = twist.states(part.ids, part.mask)
        every = log_psi(twist.values(states), bounded=twist.bounded)
        log_p0 = prior.token_logits(part.ids, part.mask).log_softmax(-1)
        psi[part.rows[row], t] = every.gather(1, part.target[:, None])[:, 0].double()
        value[part.rows[row], t] = (log_p0 + every).logsumexp(-1).double()
    log_w0 = draws.log_prior - draws.log_q
    # value[t] is of the prefix of length t; log_next[t] of length t + 1, and φ at the end.
    return TwistBatch(psi, inside, value[:, 1:], log_phi, log_w0, torch.tensor(log_z))
