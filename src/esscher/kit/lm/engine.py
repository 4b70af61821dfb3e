"""Who draws the texts of a `transformers` model, where it is not this library's own sampler.

Whatever draws, the model's own law scores the draws again, and the training sees those numbers.
The two disagree where an engine computes in other precision or order; the largest gap is kept, so
that it can be logged.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor

from esscher.core.law import Draws
from esscher.errors import ConfigError, NumericsError
from esscher.kit.lm.sequences import Sequences
from esscher.kit.require import require

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

__all__ = ["ENGINES", "Drawn", "Engine", "get_engine", "taken_gap", "with_transformers"]

LOGITS_BYTES = 2**30
"""Most bytes of logits that `generate` may keep at once."""


class Drawn(Protocol):
    """What an engine has to know of the law it draws from; see `TransformersLM`."""

    model: PreTrainedModel
    end: int
    context: int | None

    def save(self, path: Path | str) -> None:
        """Write the model in the layout of `save_pretrained`."""
        ...


Backend = Callable[[Drawn, list[list[int]], int, torch.Generator], Draws]
"""(law, n prompts as ids, most new tokens, randomness) -> n sequences and what the engine says of
their log-probabilities."""


class Engine:
    """A backend, and how far it was from the law that scored its draws again.

    Args:
        name: key of `ENGINES`.
        backend: draws.
    """

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self._backend = backend
        self._gap: float | None = None

    def draw(
        self, law: Drawn, prompts: list[list[int]], max_new: int, rng: torch.Generator
    ) -> Draws:
        """One continuation of each prompt, with the engine's own log-probabilities.

        Raises:
            NumericsError: if one of these is not finite.
        """
        drawn = self._backend(law, prompts, max_new, rng)
        bad = (~drawn.log_prob.isfinite()).nonzero()[:, 0]
        if len(bad):
            raise NumericsError(
                f"engine {self.name!r}: {len(bad)} of {len(prompts)} draws have log-probability "
                f"{float(drawn.log_prob[bad[0]])}: the network's logits are not finite, so its "
                "weights are damaged or its training diverged"
            )
        return drawn

    def compare(self, claimed: Tensor, own: Tensor) -> None:
        """Remember the largest gap of log-probabilities [n] to those of the law itself, nats."""
        if len(own):
            gap = float((claimed - own).abs().max())
            self._gap = gap if self._gap is None else max(self._gap, gap)

    def taken_gap(self) -> float | None:
        """The largest gap since the last call, nats; None where nothing was drawn."""
        gap, self._gap = self._gap, None
        return gap


def taken_gap(*laws: object) -> float | None:
    """The largest gap that engines of these laws met since the last call; None without any."""
    engines = {getattr(law, "engine", None) for law in laws} - {None}
    gaps = [engine.taken_gap() for engine in engines if isinstance(engine, Engine)]
    return max((gap for gap in gaps if gap is not None), default=None)


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


def _vllm() -> Backend:
    from esscher.kit.lm.vllm_engine import VLLM  # noqa: PLC0415 - only where it is wanted

    return VLLM()


ENGINES: Mapping[str, Callable[[], Backend] | None] = MappingProxyType(
    {"builtin": None, "transformers": lambda: with_transformers, "vllm": _vllm}
)
"""Every engine by name; None is this library's own sampler, which needs no second scoring."""


def get_engine(name: str) -> Engine | None:
    """The engine of that name; None for this library's own sampler.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in ENGINES:
        near = difflib.get_close_matches(name, ENGINES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown engine {name!r}{hint} Known: {', '.join(ENGINES)}")
    make = ENGINES[name]
    return None if make is None else Engine(name, make())
