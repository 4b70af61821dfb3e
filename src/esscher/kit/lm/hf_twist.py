"""A twist for `transformers` models: a small head on the prior's own states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from esscher.kit.lm.hf_network import HFDecoder, HFNetwork
from esscher.kit.lm.twist import log_psi, of_log_psi

if TYPE_CHECKING:
    from transformers import DynamicCache

__all__ = ["HFTwist"]

WIDENING = 2
"""Hidden units of the head per state."""


class HFTwist(nn.Module):
    """Values all next tokens v at once, ψ(x_<t, v), from the frozen states of a law's network.

    A residual layer on the normalised state, and from there a level that all next tokens share and
    a difference of each through the network's own vocabulary projection, which already knows which
    tokens are alike. Only the head is trained and stored; the network is the law's, not a copy, so
    a twist belongs to a law that does not move. Values are given on the CPU.

    Args:
        network: of the law; it stays as it is.
        bounded: whether ψ is a probability, 1/2 before training, and the head gives its log-odds;
            if not, it gives log ψ, 0 before training.

    Raises:
        ConfigError: if the model's hidden states cannot be read.

    Reference: Zhao et al. (2024), section 3, for twists.
    """

    def __init__(self, network: HFNetwork, *, bounded: bool = True) -> None:
        super().__init__()
        projection: nn.Module = network.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        embedding = projection.get_parameter("weight").detach()
        vocab, out = embedding.shape
        width: int = network.model.config.get_text_config().hidden_size
        self.bounded = bounded
        # Plain attributes: neither is trained or stored with the head.
        self._network = network
        self._embedding = embedding
        device = embedding.device
        rng = torch.Generator().manual_seed(0)
        inner = torch.randn(WIDENING * width, width, generator=rng) * width**-0.5
        self.inner = nn.Parameter(inner.to(device))
        self.outer = nn.Parameter(torch.zeros(width, WIDENING * width, device=device))
        self.level = nn.Parameter(torch.zeros(width, device=device))
        self.choice = nn.Parameter(torch.zeros(out, width, device=device))
        self.bias = nn.Parameter(torch.zeros(vocab, device=device))
        self._scale = 1.0 / (out**0.5 * max(float(embedding.float().std()), 1e-6))

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(ids [b, t], mask [b, t]) -> frozen states [N, d] of the masked positions."""
        return self._network.states_at(ids, mask)

    def values(self, states: Tensor) -> Tensor:
        """States [N, d] -> log-odds, or log ψ where unbounded, [N, V] of every next token."""
        h = self._mixed(states)
        each = nn.functional.linear(self._directions(h), self._embedding.to(h.dtype))
        found: Tensor = (h @ self.level)[:, None] + each + self.bias
        return found.cpu()

    def values_of(self, states: Tensor, chosen: Tensor) -> Tensor:
        """States [N, d] -> `values` [N] of the chosen next tokens, without the others."""
        h = self._mixed(states)
        chosen = chosen.to(h.device)
        own = (self._directions(h) * self._embedding[chosen].to(h.dtype)).sum(-1)
        found: Tensor = h @ self.level + own + self.bias[chosen]
        return found.cpu()

    def fill(self, worth: float) -> None:
        """Add what makes an untrained twist give every prefix log ψ = `worth`, nats."""
        nn.init.constant_(self.bias, of_log_psi(worth, bounded=self.bounded))

    def prefill(self, prompts: Tensor, owner: Tensor, max_new: int) -> tuple[Tensor, HFDecoder]:
        """Read prompts [P, t] once each; row i continues prompt `owner[i]`.

        Returns log ψ [n, V] of every next token and the decoder that goes on with the n rows.
        """
        del max_new

        def worth(ids: Tensor, cache: DynamicCache, start: int) -> Tensor:
            states = self._network.last_states(ids, cache, start)
            return log_psi(self.values(states), bounded=self.bounded)

        return self._network.decode(worth, prompts, owner)

    def _mixed(self, states: Tensor) -> Tensor:
        """Normalised states [N, d] with what the residual layer adds."""
        h = nn.functional.layer_norm(states.to(self.inner.dtype), states.shape[-1:])
        mixed: Tensor = h + nn.functional.gelu(h @ self.inner.T) @ self.outer.T
        return mixed

    def _directions(self, h: Tensor) -> Tensor:
        found: Tensor = (h @ self.choice.T) * self._scale
        return found
