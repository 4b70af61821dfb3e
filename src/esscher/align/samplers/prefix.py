"""What samplers that grow texts token by token may ask about unfinished ones."""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.align.samplers.sampler import Task
from esscher.core.evidence import PrefixCondition
from esscher.core.target import Target
from esscher.errors import ConfigError
from esscher.kit.lm.sequences import Sequences
from esscher.kit.lm.smc import Allowed
from esscher.kit.lm.token_model import TokenModel

__all__ = ["chance_of", "check_promise", "speaks_of_prefixes"]

TRIED = 64
"""Draws of the proposal on which the promise of a `PrefixCondition` is tried."""


def speaks_of_prefixes(target: Target) -> bool:
    """Whether any evidence can rule out unfinished texts."""
    return any(isinstance(piece, PrefixCondition) for piece in target.evidence)


def chance_of(task: Task, model: TokenModel) -> Allowed:
    """Which sequences may still end with weight, finished or not."""
    target, context = task.target, task.context

    def allowed(sequences: Sequences) -> Tensor:
        whole = sequences.finished | (sequences.lengths >= model.max_new)
        chance = torch.ones(len(sequences), dtype=torch.bool)
        if bool(whole.any()):
            x = model.of_sequences(sequences.take(whole))
            chance[whole] = target.log_weight(x, context).cpu() > -torch.inf
        if not bool(whole.all()) and speaks_of_prefixes(target):
            items = model.prefix_items(sequences.take(~whole))
            chance[~whole] = target.has_chance(items, context)
        return chance

    return allowed


def check_promise(task: Task, model: TokenModel) -> None:
    """Try whether what is ruled out stays ruled out, on beginnings of draws.

    Raises:
        ConfigError: naming a text that satisfies the evidence and has a beginning that does not.
    """
    rng = task.streams.torch("prefix-promise")
    x = model.sample(TRIED, context=task.context, rng=rng).x
    whole = model.sequences(x)
    cut = (torch.rand(TRIED, generator=rng) * whole.lengths).long()
    begun = Sequences(whole.tokens, cut, torch.zeros(TRIED, dtype=torch.bool))
    given_up = ~task.target.has_chance(model.prefix_items(begun), task.context)
    fine = task.target.has_chance(model.items(x), task.context)
    if bool((given_up & fine).any()):
        i = int((given_up & fine).nonzero()[0])
        raise ConfigError(
            "a PrefixCondition must stay false once it is: it rules out the beginning "
            f"{model.prefix_items(begun)[i]!r} and allows {model.items(x)[i]!r}, which goes on "
            "from there; take a Condition"
        )
