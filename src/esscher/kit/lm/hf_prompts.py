"""Prompts as a chat model expects them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from esscher.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["chat_prompts"]


def chat_prompts(tokenizer: PreTrainedTokenizerBase, messages: Sequence[str] | None) -> list[str]:
    """Messages of a user, each written out with what comes before the answer.

    Raises:
        ConfigError: if there is no message, or the template refuses one.
    """
    if messages is None:
        raise ConfigError("a chat model answers messages; give prompts, or leave chat out")
    rendered = {message: _rendered(tokenizer, message) for message in dict.fromkeys(messages)}
    return [rendered[message] for message in messages]


def _rendered(tokenizer: PreTrainedTokenizerBase, message: str) -> str:
    conversation = [{"role": "user", "content": message}]
    try:
        text = tokenizer.apply_chat_template(
            conversation, add_generation_prompt=True, tokenize=False
        )
    except Exception as error:
        raise ConfigError(
            f"the chat template refuses the prompt {message[:60]!r}: {error}"
        ) from error
    return str(text)
