"""A `transformers` causal model behind the two calls this library needs: decode and score."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from esscher.kit.lm.generate import Decoder
from esscher.kit.lm.scoring import Pass
from esscher.kit.require import require

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel

__all__ = ["HFDecoder", "HFNetwork"]


class HFNetwork:
    """Decoding and scoring with the model's own law: raw logits, no processor, dropout off.

    Args:
        model: a causal language model; it is put into eval mode before every pass.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        accepted = inspect.signature(model.forward).parameters
        self._positions = "position_ids" in accepted
        self._keeps = "logits_to_keep" in accepted

    def prefill(self, prompts: Tensor, owner: Tensor, max_new: int) -> tuple[Tensor, Decoder]:
        """Read prompts [P, t] once each; row i continues prompt `owner[i]`.

        Returns logits [n, V] of what follows and the decoder that goes on with the n rows.
        """
        del max_new
        cache = require("transformers", extra="lm").DynamicCache(config=self.model.config)
        decoder = HFDecoder(self, cache, prompts.shape[1])
        logits = self.last_logits(prompts, cache, start=0)[owner]
        decoder.select(owner)
        return logits, decoder

    def last_logits(self, ids: Tensor, cache: DynamicCache, start: int) -> Tensor:
        """New ids [B, t] from position `start` on -> logits [B, V] on the CPU, float32 or wider."""
        keep: dict[str, Any] = {"logits_to_keep": 1} if self._keeps else {}
        output = self._forward(ids, start, past_key_values=cache, use_cache=True, **keep)
        logits: Tensor = output.logits[:, -1]
        return logits.to("cpu", torch.promote_types(logits.dtype, torch.float32))

    def token_log_prob(self, part: Pass) -> Tensor:
        """Log-probabilities [N] of a pass's target tokens, float32 or wider."""
        logits = self._token_logits(part.ids, part.mask)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target = part.target.to(logits.device)
        return -nn.functional.cross_entropy(logits, target, reduction="none")

    def _token_logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(ids [B, t], mask [B, t]) -> logits [N, V] at the masked positions, row by row.

        Rows are padded on the right, after their last masked position. Columns in which no row is
        masked never reach the vocabulary projection where the model can be told so.
        """
        real = mask.flip(1).cumsum(1).flip(1) > 0
        columns = mask.any(0).nonzero()[:, 0].to(self.model.device)
        keep: dict[str, Any] = {"logits_to_keep": columns} if self._keeps else {}
        output = self._forward(
            ids, 0, attention_mask=real.long().to(self.model.device), use_cache=False, **keep
        )
        logits: Tensor = output.logits if self._keeps else output.logits[:, columns]
        return logits[mask.to(logits.device)[:, columns]]

    def _forward(self, ids: Tensor, start: int, **inputs: Any) -> Any:
        self.model.train(False)
        ids = ids.to(self.model.device)
        if self._positions:
            position = torch.arange(start, start + ids.shape[1], device=ids.device)
            inputs["position_ids"] = position.expand(ids.shape)
        return self.model(input_ids=ids, **inputs)


class HFDecoder:
    """Rows that continue one prompt, a token at a time."""

    def __init__(self, network: HFNetwork, cache: DynamicCache, length: int) -> None:
        self.network = network
        self.cache = cache
        self.length = length

    def step(self, ids: Tensor) -> Tensor:
        """Append ids [B]; logits [B, V] of what follows."""
        logits = self.network.last_logits(ids[:, None], self.cache, self.length)
        self.length += 1
        return logits

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) the given batch rows."""
        self.cache.batch_select_indices(rows.to(self.network.model.device))
