"""A language model of which low-rank adapters alone are trained."""

from __future__ import annotations

from esscher.errors import ConfigError
from esscher.kit.lm.hf import TransformersLM
from esscher.kit.lm.language_model import LanguageModel, Recipe
from esscher.kit.lm.lora import adapted

__all__ = ["with_lora"]

RECIPE = Recipe(lr=2e-4, floored_lr=1e-4, token_lr=2e-4, steps=150, batch=64, noisy_batch=64)


def with_lora(
    model: LanguageModel, rank: int, alpha: float | None = None, *, seed: int = 0
) -> LanguageModel:
    """A copy of a model in which only low-rank adapters of all linear layers are trained.

    The other weights are shared with the model given in, which must not be trained meanwhile. The
    adapters begin as zero, so that both are the same law.

    Args:
        model: a `TransformersLM`.
        rank: of the adapters, at least 1.
        alpha: scale of the adapters times the rank; twice the rank by default.
        seed: of their first factors.

    Raises:
        ConfigError: if the model is of another kind, has adapters, or a number is out of range.
        MissingExtra: if `peft` is not installed.
    """
    if not isinstance(model, TransformersLM):
        raise ConfigError(
            f"low-rank adapters are for transformers models, got a {type(model).__name__}"
        )
    network = adapted(model.model, rank, alpha, seed=seed)
    twin = TransformersLM(
        network, model.tokenizer, model.max_new, chat=model.chat, engine=model.engine
    )
    twin.recipe = RECIPE
    return twin
