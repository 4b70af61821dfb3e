"""A learnt twist: what a prefix is worth, ψ(x_≤t) = E_p0[φ(x) | x_≤t]."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from esscher.kit.lm.gpt import GPT
from esscher.kit.lm.language_model import chunks_by_length
from esscher.kit.lm.sequences import Sequences

__all__ = ["Twist"]


class Twist(nn.Module):
    """A copy of a network with one number per prefix: the log-odds of the potential φ in [0, 1].

    Trained on the prior's own draws by cross-entropy against φ it approaches the optimal twist of
    the prior, which is also the value function of the posterior.

    Args:
        network: where the copy starts.
        prompts: (contexts or None, n) -> n id lists with the start token.
        tokens: most tokens per pass, padding included.

    Reference: Yang and Klein (2021, FUDGE); Zhao et al. (2024), section 3, for twists.
    """

    def __init__(
        self,
        network: GPT,
        prompts: Callable[[Sequence[str] | None, int], list[list[int]]],
        tokens: int,
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.weight = nn.Parameter(torch.zeros(network.config.width))
        self.bias = nn.Parameter(torch.zeros(()))
        self._prompts = prompts
        self._tokens = tokens

    def chunks(
        self, x: Sequences, context: Sequence[str] | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(index [b], log-odds [N]) pairs with graph.

        Row i of a chunk has one entry per token of its sequence, for the prefix before that token.
        """
        prompts = self._prompts(context, len(x))
        before = torch.tensor([len(p) - 1 for p in prompts], dtype=torch.long)
        for index in chunks_by_length(x.lengths + before, self._tokens):
            part = x.take(index)
            ids, mask = part.after([prompts[i] for i in index.tolist()], pad=0)
            yield index, self.network.hidden(ids)[mask] @ self.weight + self.bias
