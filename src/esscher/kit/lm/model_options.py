"""How a saved `transformers` model is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["AS_STORED", "ModelOptions"]


@dataclass(frozen=True)
class ModelOptions:
    """Settings of a `transformers` model; models of ours take none."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights; auto takes them as they are stored. Log-probabilities are float32 sums
    whatever it is."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    chat: bool = False
    """Prompts are messages of a user, written out by the tokenizer's chat template."""
    max_new: int | None = None
    """Most tokens of a text; by default what `save` wrote into the folder, else 64, or as many as
    the model's context holds."""


AS_STORED = ModelOptions()
"""The model as its folder has it."""
