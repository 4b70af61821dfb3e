"""Settings of fits to preference pairs."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from esscher.align.preferences.losses import PREFERENCE_LOSSES
from esscher.core.divergence import get_divergence
from esscher.errors import ConfigError

__all__ = ["PairConfig", "PreferenceConfig", "RewardConfig"]

DEFAULTS: dict[str, Any] = {"smoothing": 0.1, "divergence": "js"}
"""Settings that belong to one loss, where the user names none."""


@dataclass(frozen=True)
class PairConfig:
    """What every fit to pairs has in common. None means: what suits the model (its `recipe`)."""

    steps: int = 200
    """Most optimiser steps."""
    batch: int = 64
    """Pairs per step; a batch at least as large as the data holds every pair once."""
    lr: float | None = None
    """Peak learning rate of Adam."""
    warmup: int = 10
    """Steps of linear warm-up before the cosine decay to zero."""
    clip: float = 1.0
    """Largest gradient norm."""
    held_out: float = 0.1
    """Share of the pairs that is held out, to stop early and to judge by."""
    check_every: int = 10
    """Steps between looks at the held-out pairs."""
    patience: int = 5
    """Looks without a lower held-out loss after which training stops."""
    overlong: Literal["raise", "drop"] = "raise"
    """What happens to a pair with a text longer than the model can write: stop, or leave the pair
    out and warn."""
    seed: int = 0
    """One integer for every random number of the fit."""

    def __post_init__(self) -> None:
        low = {"steps": 1, "batch": 1, "warmup": 0, "check_every": 1, "patience": 1, "seed": 0}
        for name, least in low.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("lr", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be positive and finite, got {value}")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out must lie in (0, 1), got {self.held_out}")
        if self.overlong not in ("raise", "drop"):
            raise ConfigError(f"overlong must be 'raise' or 'drop', got {self.overlong!r}")


@dataclass(frozen=True)
class PreferenceConfig(PairConfig):
    """How a policy is fitted to preference pairs."""

    objective: str = "dpo"
    """Key of `PREFERENCE_LOSSES`: dpo, cdpo, f_dpo or ipo."""
    beta: float = 0.1
    """Temperature of the target, in reward per nat; τ of ipo."""
    smoothing: float | None = None
    """Of cdpo: probability in [0, 0.5) with which a label is wrong; 0.1 by default."""
    divergence: str | None = None
    """Of f_dpo: reverse_kl, forward_kl, js or alpha:<number below 1>; js by default."""
    draws: int = 256
    """Draws of the policy behind every KL(π‖p0)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in PREFERENCE_LOSSES:
            near = difflib.get_close_matches(self.objective, PREFERENCE_LOSSES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"unknown preference loss {self.objective!r}{hint} "
                f"Known: {', '.join(PREFERENCE_LOSSES)}"
            )
        if not 0 < self.beta < math.inf:
            raise ConfigError(f"beta must be positive and finite, got {self.beta}")
        if self.draws < 2:
            raise ConfigError(f"draws must be at least 2, got {self.draws}")
        used = PREFERENCE_LOSSES[self.objective].settings
        for name in DEFAULTS:
            if getattr(self, name) is not None and name not in used:
                raise ConfigError(f"{name} does not belong to {self.objective}; leave it out")
        self._check_own()

    def _check_own(self) -> None:
        if self.smoothing is not None and not 0 <= self.smoothing < 0.5:
            raise ConfigError(
                f"smoothing must lie in [0, 0.5), got {self.smoothing}; at 0.5 the labels would "
                "say nothing"
            )
        if self.divergence is None:
            return
        chosen = get_divergence(self.divergence)
        # A bounded slope at 0 could put whole texts at probability zero, where DPO has no gradient.
        if not chosen.slope(torch.tensor(-math.inf)).item() == -math.inf:
            raise ConfigError(
                f"f_dpo needs a divergence whose slope is -inf at π = 0, which {self.divergence} "
                "has not; use reverse_kl, forward_kl, js or alpha:<number below 1>"
            )

    def settings(self) -> dict[str, Any]:
        """The settings its loss takes, by name."""
        used = PREFERENCE_LOSSES[self.objective].settings
        found = {name: getattr(self, name) for name in used}
        return {name: DEFAULTS[name] if v is None else v for name, v in found.items()}


@dataclass(frozen=True)
class RewardConfig(PairConfig):
    """How a reward model is fitted to preference pairs."""

    l2: float = 1e-4
    """Nats per squared reward: keeps rewards finite where the pairs can be separated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.l2 < math.inf:
            raise ConfigError(f"l2 must be finite and at least 0, got {self.l2}")
