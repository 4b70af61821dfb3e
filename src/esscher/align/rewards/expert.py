"""Another language model as evidence: a factor in a product of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from esscher.kit.lm.identity import check_same_outcomes
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.reading import samples_of_items

__all__ = ["Expert"]


class Expert:
    """log p_k(x) of another model, nats: `Likelihood(Expert(model, prior), scale=a)` is p_k(x)^a.

    Token ids are scored where the items remember them, so that the factor is the other model's
    probability of the very outcome.

    Args:
        model: the expert.
        prior: of the target, whose items are weighed.

    Raises:
        ConfigError: if both are not laws of the same texts, token by token.

    Reference: Hinton (2002) for products of experts.
    """

    def __init__(self, model: LanguageModel, prior: LanguageModel) -> None:
        check_same_outcomes(model, prior)
        self.model = model
        self.prior = prior

    def __call__(self, items: Sequence[Any], contexts: Sequence[str] | None = None) -> Tensor:
        """Log-probabilities [B] of what the prior's `items` gives."""
        context = None if contexts is None else list(contexts)
        return self.model.log_prob(samples_of_items(self.prior, items), context=context)
