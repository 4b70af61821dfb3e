"""Flags about `transformers` models, for every command that reads or trains one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from esscher.errors import ConfigError
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.model_options import ModelOptions
from esscher.kit.lm.with_lora import with_lora

__all__ = ["ModelFlags", "TrainedFlags", "starting_point"]


@dataclass(frozen=True)
class ModelFlags:
    """How a model is read."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Weights of a transformers model: auto takes them as they are stored."""
    device: str = "auto"
    """Where a transformers model lives, such as cpu or cuda:0; auto is the process's own GPU, or
    the CPU where there is none."""
    chat: bool = False
    """Prompts are messages of a user, written out by the chat template of a transformers model."""
    max_new: int | None = None
    """Most tokens of a text of a transformers model; by default what its folder says, else 64."""
    engine: Literal["builtin", "transformers", "vllm"] = "builtin"
    """Who draws the texts of a transformers model: this library, `generate` of transformers, or
    vLLM. The model's own law scores what the others draw."""

    def model_options(self) -> ModelOptions:
        """How models are read, as far as these options say."""
        known = {f.name for f in fields(self)} & {f.name for f in fields(ModelOptions)}
        return ModelOptions(**{name: getattr(self, name) for name in known})


@dataclass(frozen=True)
class TrainedFlags:
    """How it is trained."""

    checkpointing: bool = False
    """Recompute activations of a transformers model: less memory, more time."""
    lora_rank: int = 0
    """Rank of adapters on all linear layers of a transformers model, which alone are then trained;
    0 trains all weights."""
    lora_alpha: float | None = None
    """Scale of the adapters times their rank; twice the rank by default."""


def starting_point(model: LanguageModel, flags: TrainedFlags, *, seed: int) -> LanguageModel:
    """Where training starts: the model, or the model with fresh adapters.

    Raises:
        ConfigError: if adapters are scaled where there are none, or are not for such a model.
    """
    if flags.lora_rank:
        return with_lora(model, flags.lora_rank, flags.lora_alpha, seed=seed)
    if flags.lora_alpha is not None:
        raise ConfigError(
            f"lora_alpha={flags.lora_alpha:g} scales adapters, and there are none; set lora_rank"
        )
    return model
