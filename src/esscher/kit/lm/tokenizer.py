"""Byte-level BPE with one special token that both starts and ends a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from esscher.errors import ConfigError, DataError
from esscher.kit.require import require

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["END", "BytePairTokenizer", "why_not_encodable"]

END = 0
"""Id of the token that starts a prompt-free text and ends every text."""
END_TEXT = "<|end of text|>"
"""Its spaces keep it apart from every learned token, where a space is written as another letter."""


class BytePairTokenizer:
    """Byte-level BPE: every string round-trips; id 0 starts and ends a text.

    Needs the `lm` extra (the `tokenizers` package).
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        # The end token's name inside a text is text like any other.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> BytePairTokenizer:
        """Learn merges from texts.

        Raises:
            ConfigError: if vocab_size cannot hold the 256 bytes and the end token.
        """
        if vocab_size < 257:
            raise ConfigError(f"vocab_size must be at least 257 (bytes and end), got {vocab_size}")
        require("tokenizers", extra="lm")
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def from_json(cls, text: str) -> BytePairTokenizer:
        """Load from the text `to_json` gave."""
        require("tokenizers", extra="lm")
        from tokenizers import Tokenizer  # noqa: PLC0415

        return cls(Tokenizer.from_str(text))

    def to_json(self) -> str:
        """The whole tokenizer as JSON text."""
        return str(self._tokenizer.to_str())

    @property
    def vocab_size(self) -> int:
        """Number of ids, the end token included."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Texts to ids, without the end token.

        Raises:
            DataError: if a text holds lone surrogates, which no UTF-8 can represent.
        """
        try:
            encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        except TypeError as error:
            raise DataError(why_not_encodable(texts)) from error
        return [e.ids for e in encoded]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Ids to texts; the end token is left out, broken UTF-8 becomes U+FFFD."""
        return list(self._tokenizer.decode_batch([list(i) for i in ids], skip_special_tokens=True))


def why_not_encodable(texts: Sequence[object]) -> str:
    """The message for texts a tokenizer has refused."""
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            return f"text {i} is a {type(text).__name__}; expected a str"
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            return f"text {i} holds lone surrogates, which UTF-8 cannot represent: {text[:60]!r}"
    return "the tokenizer accepts none of these texts"
