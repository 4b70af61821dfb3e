"""`generate` of transformers as the engine that draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from esscher.core.law import Draws
from esscher.errors import ConfigError
from esscher.kit.lm.engine import Drawn
from esscher.kit.lm.sequences import Sequences
from esscher.kit.require import require

if TYPE_CHECKING:
    from transformers import GenerationConfig

__all__ = ["with_transformers"]

LOGITS_BYTES = 2**30
"""Most bytes of logits that `generate` may keep at once."""


def with_transformers(
    law: Drawn, prompts: list[list[int]], max_new: int, rng: torch.Generator
) -> Draws:
    """`generate` of transformers on prompts padded on the left, without any change to the law.

    Raises:
        ConfigError: if the model's `generation_config` bends the law.
    """
    config = _plain_config(law.end, max_new)
    vocab = law.model.get_input_embeddings().get_parameter("weight").shape[0]
    rows = max(1, LOGITS_BYTES // (8 * max_new * vocab))
    parts = [
        _generated(law, prompts[i : i + rows], config, rng) for i in range(0, len(prompts), rows)
    ]
    log_prob = torch.cat([torch.zeros(0, dtype=torch.float64), *(part.log_prob for part in parts)])
    return Draws(Sequences.join([part.x for part in parts]), log_prob)


def _plain_config(end: int, max_new: int) -> GenerationConfig:
    config: GenerationConfig = require("transformers", extra="lm").GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        num_beams=1,
        max_new_tokens=max_new,
        eos_token_id=end,
        pad_token_id=end,
        return_dict_in_generate=True,
        output_logits=True,
        output_scores=True,
    )
    return config


def _generated(
    law: Drawn, prompts: Sequence[Sequence[int]], config: GenerationConfig, rng: torch.Generator
) -> Draws:
    width, device = max(map(len, prompts)), law.model.device
    ids = torch.tensor([[law.end] * (width - len(p)) + list(p) for p in prompts])
    real = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    seed = int(torch.randint(2**31, (), generator=rng))
    # `generate` draws from the global state, which is put back.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        generate = cast("Callable[..., Any]", law.model.generate)
        found = generate(
            input_ids=ids.to(device), attention_mask=real.to(device), generation_config=config
        )
    tokens = found.sequences[:, width:].cpu()
    x = _ended(tokens, law.end)
    inside = x.mask()
    logits = torch.stack(found.logits, 1).float().cpu()[inside]
    scores = torch.stack(found.scores, 1).float().cpu()[inside]
    if not torch.allclose(logits, scores, rtol=1e-6, atol=0.0, equal_nan=True):
        raise ConfigError(
            "the model's generation_config changes its law, such as by a penalty or by forbidden "
            "tokens, so that `generate` draws from another; remove what it sets, or take "
            "engine='builtin'"
        )
    each = torch.zeros(inside.shape, dtype=torch.float64)
    chosen = logits.log_softmax(-1).gather(1, x.tokens[inside][:, None])
    each[inside] = chosen[:, 0].double()
    return Draws(x, each.sum(1))


def _ended(tokens: Tensor, end: int) -> Sequences:
    """Generated ids [n, T], whatever follows the first end token, as sequences."""
    ends = tokens == end
    finished = ends.any(1)
    lengths = torch.where(finished, ends.int().argmax(1) + 1, tokens.shape[1])
    return Sequences(tokens[:, : int(lengths.max())], lengths, finished)
