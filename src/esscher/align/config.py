"""Settings of `esscher align fit`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from esscher.align.objectives import OBJECTIVES, get_objective
from esscher.errors import ConfigError

__all__ = ["FitConfig"]


@dataclass(frozen=True)
class FitConfig:
    """How a policy is fitted to a target. None means: what suits the model (its `recipe`)."""

    objective: str = "forward_kl"
    """Key of `OBJECTIVES`, such as forward_kl, js, reverse_kl or vargrad; or alpha:<number>."""
    proposal: Literal["auto", "on_policy", "prior", "adaptive", "mixture", "replay"] = "auto"
    """Law that draws the training samples; auto takes the objective's own choice. adaptive is the
    prior until the policy is closer to the target, mixture half prior and half policy, replay half
    policy and half draws of the last 16 steps."""
    steps: int | None = None
    """Optimiser steps."""
    batch: int | None = None
    """Draws per step."""
    credit: Literal["auto", "sequence", "token"] = "auto"
    """What forward_kl credits with the evidence: whole draws, or single tokens by a learnt twist
    (models of ours under conditions, draws of the prior); auto credits tokens where that can be."""
    group: int = 16
    """Draws per prompt, where there are prompts; leave-one-out baselines need at least 2."""
    lr: float | None = None
    """Peak learning rate of Adam."""
    warmup: float = 0.1
    """Share of the steps over which the learning rate rises linearly; cosine decay follows."""
    clip: float = 1.0
    """Largest gradient norm."""
    average: float = 0.95
    """Decay of the exponential moving average of the weights, which is the result; 0 for none."""
    floor: float = 5.0
    """Nats: a draw the evidence rules out counts as log-weight -floor where the objective needs a
    finite one (reverse_kl and all that have a finite target only); the others use the exact
    target."""
    check_every: int = 10
    """Steps between decisions: does the adaptive proposal move to the current policy, and is that
    the best model so far."""
    kl_target: float | None = None
    """Nats of KL(π‖p0) that the power of the evidence is steered to, so that the target moves while
    training goes on; None keeps the target as it is. On-policy objectives only."""
    kl_cap: float = 100.0
    """Nats of KL(π‖p0) above which training stops; the result is then the model at the end of the
    `check_every` steps whose draws showed the lowest divergence to the target."""
    parts: int | None = None
    """Parts of a batch with random numbers of their own, a multiple of the processes; as many as
    there are processes by default. Fits with equal parts take equal steps on any number of them."""
    shard: bool = False
    """Under torchrun weights, gradients and moments rest in parts, one on every process: FSDP2."""
    seed: int = 0
    """One integer for every random number of the fit."""

    def __post_init__(self) -> None:
        chosen = get_objective(self.objective)
        if chosen.on_policy_only and self.proposal not in ("auto", "on_policy"):
            raise ConfigError(
                f"{self.objective} needs draws from the policy itself, got proposal="
                f"{self.proposal!r}; vargrad has the same optimum and takes any proposal"
            )
        if chosen.prior_only and self.proposal not in ("auto", "prior"):
            raise ConfigError(
                f"{self.objective} is about draws of the prior, got proposal={self.proposal!r}"
            )
        if self.proposal == "replay" and not chosen.any_law:
            able = ", ".join(name for name, o in OBJECTIVES.items() if o.any_law)
            raise ConfigError(
                f"{self.objective} cannot use draws of past steps again, got proposal='replay'; "
                f"these can: {able}"
            )
        on_policy = "on_policy" in (chosen.proposal, self.proposal)
        if self.kl_target is not None and not on_policy:
            raise ConfigError(
                f"kl_target moves the target at every step and needs draws of the policy, got "
                f"{self.objective} with proposal={self.proposal!r}"
            )
        if self.credit == "token" and (
            self.objective != "forward_kl" or self.proposal not in ("auto", "prior")
        ):
            raise ConfigError(
                "credit='token' needs objective='forward_kl' and draws of the prior, got "
                f"{self.objective!r} and proposal={self.proposal!r}"
            )
        self._check_ranges()

    def _check_ranges(self) -> None:
        minimum = {
            "steps": 1,
            "batch": 2,
            "group": 2,
            "check_every": 1,
            "parts": 1,
            "seed": 0,
        }
        for name, low in minimum.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigError(f"{name} must be at least {low}, got {value}")
        for name in ("lr", "clip", "floor", "kl_cap", "kl_target"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} must be positive and finite, got {value}")
        for name in ("warmup", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
