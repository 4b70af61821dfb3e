"""What must agree before two models can be compared."""

from __future__ import annotations

import hashlib
import json

from esscher.errors import ConfigError
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.hf import TransformersLM
from esscher.kit.lm.tabular import TabularLM

__all__ = ["check_same_outcomes", "token_digest"]


def token_digest(law: object) -> str | None:
    """Names a language model's tokens; None for a law of another kind."""
    if isinstance(law, TabularLM):
        tokens = f"{law.alphabet} letters, at most {law.max_len}"
    elif isinstance(law, TransformersLM):
        tokens = json.dumps(sorted(law.tokenizer.get_vocab().items()))
    elif isinstance(law, SmallLM):
        tokens = law.tokenizer.to_json()
    else:
        return None
    return hashlib.sha256(tokens.encode()).hexdigest()[:16]


def check_same_outcomes(model: object, prior: object) -> None:
    """Whether a model and the prior are laws of the same texts, token by token.

    Raises:
        ConfigError: naming what differs: the tokens, or the longest text.
    """
    theirs, ours = token_digest(model), token_digest(prior)
    if theirs is not None and ours is not None and theirs != ours:
        raise ConfigError(
            f"the model's tokens ({theirs}) are not the prior's ({ours}), so that neither can "
            "score the other's texts; use models with one tokenizer"
        )
    lengths = getattr(model, "max_new", None), getattr(prior, "max_new", None)
    if None not in lengths and lengths[0] != lengths[1]:
        raise ConfigError(
            f"the model writes at most {lengths[0]} tokens and the prior {lengths[1]}, so that "
            "texts cut by one are not outcomes of the other; load both with one max_new"
        )
