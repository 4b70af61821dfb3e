"""How a saved `transformers` model is read."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Literal

import torch

from esscher.errors import ConfigError

__all__ = ["AS_STORED", "ModelOptions", "device_of"]


@dataclass(frozen=True)
class ModelOptions:
    """Settings of a `transformers` model; models of ours take none."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights; auto takes them as they are stored. Log-probabilities are float32 sums
    whatever it is."""
    device: str = "auto"
    """Where the model lives, by its name in torch; auto is the process's own GPU, or the CPU where
    there is none."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    chat: bool = False
    """Prompts are messages of a user, written out by the tokenizer's chat template."""
    max_new: int | None = None
    """Most tokens of a text; by default what `save` wrote into the folder, else 64, or as many as
    the model's context holds."""
    engine: Literal["builtin", "transformers", "vllm"] = "builtin"
    """Who draws texts: this library, `generate` of transformers, or vLLM. The model's own law
    scores what the others draw."""

    def changed(self) -> list[str]:
        """Names of the settings that differ from those of the model as it is stored."""
        return [f.name for f in fields(self) if getattr(self, f.name) != f.default]


AS_STORED = ModelOptions()
"""The model as its folder has it."""


def device_of(name: str) -> torch.device:
    """The device of that name; for auto the GPU that torchrun gives this process, if there is one.

    Raises:
        ConfigError: if torch knows no such device, or it is not here.
    """
    if name == "auto":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}); take 'cpu', or "
            "'auto' for a GPU where there is one"
        ) from error
    return device
