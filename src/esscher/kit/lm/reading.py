"""Items that evidence sees, as samples of the law that made them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from esscher.core.law import Samples
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.sequences import Sequences, Texts
from esscher.kit.lm.tabular import TabularLM

__all__ = ["samples_of_items"]


def samples_of_items(law: LanguageModel, items: Sequence[Any]) -> Samples:
    """What `law.items` was given: texts, which remember their token ids, or token-id lists.

    Texts without ids are encoded by the law's tokenizer, cut at `max_new` tokens.
    """
    if isinstance(items, Texts) and items.tokenizer is getattr(law, "tokenizer", None):
        return items.sequences
    if isinstance(law, TabularLM):
        rows = [[i for i in item if i != law.end] for item in items]
        return law.of_sequences(Sequences.of_texts(rows, end=law.end, max_new=law.max_new))
    return cast("SmallLM", law).encode(list(items))
