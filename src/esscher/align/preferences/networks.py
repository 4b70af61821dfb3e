"""What gives a sample its reward: a number per outcome, or a head on a copy of a law's network."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from esscher.align.preferences.readings import readings
from esscher.core.law import Context, Samples
from esscher.errors import ConfigError
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.gpt import GPT
from esscher.kit.lm.hf import TransformersLM
from esscher.kit.lm.hf_network import base_of
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.sequences import Sequences
from esscher.kit.lm.tabular import TabularLM
from esscher.kit.lm.token_model import TokenModel

__all__ = ["RewardNetwork", "SequenceReward", "TabularReward", "reward_network"]


class RewardNetwork(Protocol):
    """An `nn.Module` that gives rewards."""

    def chunks(
        self, law: LanguageModel, x: Samples, context: Context
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(index [b], rewards [b] float64 with graph) pairs that cover the batch once."""
        ...

    def kind(self) -> str:
        """Names the architecture."""
        ...


class TabularReward(nn.Module):
    """A free number per outcome, 0 before training.

    Args:
        n: number of outcomes.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(n, dtype=torch.float64))

    def chunks(
        self, law: LanguageModel, x: Tensor, context: Context
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The whole batch as one chunk; the context is ignored."""
        del law, context
        yield torch.arange(len(x)), self.values[x]

    def kind(self) -> str:
        """Names the architecture."""
        return f"tabular of {len(self.values)} outcomes"


class SequenceReward(nn.Module):
    """A scalar head on the state of the last token, 0 everywhere before training.

    Args:
        backbone: the copied network, without its vocabulary projection.
        width: of its states.
        limit: most tokens it reads; None for no limit.
    """

    def __init__(self, backbone: nn.Module, width: int, limit: int | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.limit = limit
        device = next(backbone.parameters()).device
        self.head = nn.Parameter(torch.zeros(width, device=device))

    def chunks(
        self, law: LanguageModel, x: Sequences, context: Context
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of similar length share a pass; the head is applied in float32."""
        for part in readings(x, cast("TokenModel", law).prompts(context, len(x)), limit=self.limit):
            states = self._states(part.ids, part.mask)
            yield part.rows, (states.to(self.head.dtype) @ self.head).double().cpu()

    def _states(self, ids: Tensor, mask: Tensor) -> Tensor:
        if isinstance(self.backbone, GPT):
            return self.backbone.states_at(ids, mask)
        self.backbone.train(False)
        device = self.head.device
        real = mask.flip(1).cumsum(1).flip(1).to(device)
        output = self.backbone(input_ids=ids.to(device), attention_mask=real, use_cache=False)
        states: Tensor = output.last_hidden_state[mask.to(device)]
        return states

    def kind(self) -> str:
        """Names the architecture."""
        shapes = sum(p.numel() for p in self.backbone.parameters())
        return f"{type(self.backbone).__name__} of {shapes} numbers"


def reward_network(law: LanguageModel) -> TabularReward | SequenceReward:
    """An untrained reward network for a law's samples; the law's own network is copied.

    Raises:
        ConfigError: if there is none for such a law.
    """
    if isinstance(law, TabularLM):
        return TabularReward(len(law.enumerate()))
    if isinstance(law, SmallLM):
        shape = law.network.config
        return SequenceReward(copy.deepcopy(law.network), shape.width, shape.context)
    if isinstance(law, TransformersLM):
        width: int = law.model.config.get_text_config().hidden_size
        return SequenceReward(copy.deepcopy(base_of(law.model)), width, law.context)
    raise ConfigError(
        "a reward model needs a prior that is a TabularLM, a SmallLM or a TransformersLM, got a "
        f"{type(law).__name__}"
    )
