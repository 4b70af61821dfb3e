"""Configuration of `esscher align prefer`: what flags, TOML files and docs show."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from esscher.align.model_flags import ModelFlags, TrainedFlags
from esscher.align.modelling import BUILTIN
from esscher.align.preferences.config import PairConfig, PreferenceConfig, RewardConfig
from esscher.errors import ConfigError

__all__ = ["REWARD_MODEL", "PairFlags", "PreferOptions"]

REWARD_MODEL = "reward_model"
"""The method that learns a reward instead of a policy."""
Config = TypeVar("Config", bound=PairConfig)


@dataclass(frozen=True)
class PairFlags:
    """Comparisons, and what is learnt from them."""

    pairs: Path | None = None
    """JSON Lines file with "chosen", "rejected" and perhaps "prompt" on each line; the argument."""
    prior: str = BUILTIN
    """Where the model comes from: builtin:stdlib, a folder with a model of ours or of transformers,
    or a hub name, hf:organisation/model[@revision]."""
    method: Literal["dpo", "cdpo", "f_dpo", "ipo", "reward_model"] = "dpo"
    """dpo, cdpo, f_dpo and ipo train the model itself; reward_model learns a reward that can be
    evidence later."""
    beta: float | None = None
    """Temperature of the target, 0.1 by default; τ of ipo. A reward model has none until it is
    used."""
    smoothing: float | None = None
    """Of cdpo: probability in [0, 0.5) with which a label is wrong; 0.1 by default."""
    divergence: str | None = None
    """Of f_dpo: reverse_kl, forward_kl, js or alpha:<number below 1>; js by default."""
    l2: float | None = None
    """Of reward_model: nats per squared reward; 1e-4 by default."""
    steps: int = 200
    """Most optimiser steps; training stops earlier where the held-out loss does not fall."""
    batch: int = 64
    """Pairs per step."""
    lr: float | None = None
    """Peak learning rate of Adam; by default what suits the model."""
    held_out: float = 0.1
    """Share of the pairs that is held out, to stop early and to judge by."""
    patience: int = 5
    """Looks, every 10 steps, without a lower held-out loss after which training stops."""
    overlong: Literal["raise", "drop"] = "raise"
    """What happens to a pair with a text longer than the model can write: stop, or leave it out."""
    draws: int = 256
    """Draws of the policy behind every KL(π‖p0)."""
    seed: int = 0
    """One integer for every random number."""
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    name: str = "prefer"
    """Name of the run."""


@dataclass(frozen=True)
class PreferOptions(TrainedFlags, ModelFlags, PairFlags):
    """`esscher align prefer`: comparisons, what is learnt from them, and on which model."""

    def config(self) -> PreferenceConfig | RewardConfig:
        """The training settings among these.

        Raises:
            ConfigError: if one is out of range or does not belong to the method.
        """
        if self.method == REWARD_MODEL:
            self._refuse(("beta", "smoothing", "divergence"))
            if self.lora_rank:
                raise ConfigError(
                    f"lora_rank={self.lora_rank} adapts a policy, and a reward model trains its "
                    "own copy of the network; leave it out"
                )
            return _settings(RewardConfig, self)
        self._refuse(("l2",))
        return _settings(PreferenceConfig, self, objective=self.method)

    def _refuse(self, names: tuple[str, ...]) -> None:
        for name in names:
            if getattr(self, name) is not None:
                later = "; it belongs to Reward(model, beta=...), where the model is evidence"
                raise ConfigError(
                    f"{name} does not belong to the method {self.method}"
                    + (later if name == "beta" else "; leave it out")
                )


def _settings(kind: type[Config], options: PreferOptions, **more: Any) -> Config:
    """A configuration from the options that name its fields; None leaves its own default."""
    names = {f.name for f in fields(kind)} & {f.name for f in fields(options)}
    given = {name: getattr(options, name) for name in names}
    return kind(**{k: v for k, v in given.items() if v is not None}, **more)
