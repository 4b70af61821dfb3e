"""A `transformers` causal model behind the two calls this library needs: decode and score."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from esscher.errors import ConfigError
from esscher.kit.lm.generate import Decoder
from esscher.kit.lm.scoring import Pass
from esscher.kit.require import require

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel

__all__ = ["HFDecoder", "HFNetwork", "base_of", "recompute_activations"]


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
        return self.decode(self._last_logits, prompts, owner)

    def decode(self, read: Read, prompts: Tensor, owner: Tensor) -> tuple[Tensor, HFDecoder]:
        """What `read` gives after the prompts, [n, …] by row, and how to go on."""
        cache = require("transformers", extra="lm").DynamicCache(config=self.model.config)
        decoder = HFDecoder(read, cache, self.model.device, prompts.shape[1])
        first = read(prompts, cache, 0)[owner]
        decoder.select(owner)
        return first, decoder

    def _last_logits(self, ids: Tensor, cache: DynamicCache, start: int) -> Tensor:
        keep: dict[str, Any] = {"logits_to_keep": 1} if self._keeps else {}
        output = self._forward(
            self.model, ids, start, past_key_values=cache, use_cache=True, **keep
        )
        return _wide(output.logits[:, -1]).cpu()

    def last_states(self, ids: Tensor, cache: DynamicCache, start: int) -> Tensor:
        """New ids [B, t] from position `start` on -> states [B, d] of their last, frozen."""
        with torch.no_grad():
            output = self._forward(
                base_of(self.model), ids, start, past_key_values=cache, use_cache=True
            )
        return _wide(output.last_hidden_state[:, -1])

    def token_log_prob(self, part: Pass) -> Tensor:
        """Log-probabilities [N] of a pass's target tokens, float32 or wider."""
        logits = self.token_logits(part.ids, part.mask)
        target = part.target.to(logits.device)
        return -nn.functional.cross_entropy(logits, target, reduction="none")

    def token_logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(ids [B, t], mask [B, t]) -> logits [N, V] at the masked positions, row by row.

        Rows are padded on the right, after their last masked position. Columns in which no row is
        masked never reach the vocabulary projection where the model can be told so.
        """
        columns = mask.any(0).nonzero()[:, 0].to(self.model.device)
        keep: dict[str, Any] = {"logits_to_keep": columns} if self._keeps else {}
        output = self._forward(self.model, ids, 0, **_unpadded(mask, self.model.device), **keep)
        logits: Tensor = output.logits if self._keeps else output.logits[:, columns]
        return _wide(logits[mask.to(logits.device)[:, columns]])

    @torch.no_grad()
    def states_at(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(ids [B, t], mask [B, t]) -> states [N, d] at the masked positions, frozen."""
        base = base_of(self.model)
        output = self._forward(base, ids, 0, **_unpadded(mask, self.model.device))
        states: Tensor = output.last_hidden_state
        return _wide(states[mask.to(states.device)])

    def _forward(self, model: nn.Module, ids: Tensor, start: int, **inputs: Any) -> Any:
        self.model.train(False)
        _recompute_layers(self.model, on=torch.is_grad_enabled() and not inputs.get("use_cache"))
        ids = ids.to(self.model.device)
        if self._positions:
            position = torch.arange(start, start + ids.shape[1], device=ids.device)
            inputs["position_ids"] = position.expand(ids.shape)
        return model(input_ids=ids, **inputs)


def recompute_activations(model: PreTrainedModel) -> None:
    """Have a model compute its layers again in the backward pass instead of keeping them.

    Raises:
        ConfigError: if its class cannot.
    """
    if not model.supports_gradient_checkpointing:
        raise ConfigError(
            f"{type(model).__name__} cannot recompute its activations; leave checkpointing out"
        )
    # Releases of transformers before the new name have the old one, which later ones warn about.
    renamed = getattr(model, "activation_checkpointing_enable", None)
    enable: Callable[[dict[str, bool]], None] = renamed or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _recompute_layers(model: PreTrainedModel, *, on: bool) -> None:
    # Layers recompute in training mode only; what they contain stays without dropout.
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = on


def _unpadded(mask: Tensor, device: torch.device) -> dict[str, Any]:
    """What tells a model where rows end: after their last masked position."""
    real = mask.flip(1).cumsum(1).flip(1) > 0
    return {"attention_mask": real.long().to(device), "use_cache": False}


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def base_of(model: PreTrainedModel) -> nn.Module:
    """The model without its vocabulary projection.

    Raises:
        ConfigError: if its class does not say which part that is.
    """
    base: nn.Module = model.base_model
    if base is model:
        raise ConfigError(
            f"{type(model).__name__} has no base model without its vocabulary projection, so its "
            "hidden states cannot be read"
        )
    return base


Read = Callable[[Tensor, "DynamicCache", int], Tensor]
"""(ids [B, t], cache, position of the first) -> what is said of the token after them, [B, …]."""


class HFDecoder:
    """Rows that continue one prompt, a token at a time.

    Args:
        read: appends ids to the cache and says what follows.
        cache: keys and values of the rows.
        device: of the cache.
        length: tokens read so far.
    """

    def __init__(self, read: Read, cache: DynamicCache, device: torch.device, length: int) -> None:
        self._read = read
        self._cache = cache
        self._device = device
        self._length = length

    def step(self, ids: Tensor) -> Tensor:
        """Append ids [B]; what `read` says of the next token, [B, …]."""
        found = self._read(ids[:, None], self._cache, self._length)
        self._length += 1
        return found

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) the given batch rows."""
        self._cache.batch_select_indices(rows.to(self._device))
