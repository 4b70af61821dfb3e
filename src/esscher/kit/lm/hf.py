"""Any causal `transformers` model as a law: sample, score, clone, save."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from esscher.core.law import Context, Draws
from esscher.errors import ConfigError, DataError, NumericsError
from esscher.kit.lm.engine import Engine
from esscher.kit.lm.engines import get_engine
from esscher.kit.lm.generate import generate_by_prompt
from esscher.kit.lm.hf_folder import read_folder, write_folder
from esscher.kit.lm.hf_network import HFNetwork, recompute_activations
from esscher.kit.lm.hf_prompts import chat_prompts
from esscher.kit.lm.hf_twist import HFTwist
from esscher.kit.lm.language_model import Recipe, contexts_of
from esscher.kit.lm.lora import (
    ADAPTER,
    Trained,
    has_adapters,
    merged,
    shared_copy,
    write_adapter,
)
from esscher.kit.lm.model_options import AS_STORED, ModelOptions, device_of
from esscher.kit.lm.scoring import Pass, gather, graph_bytes, passes, prompt_ids, score_chunks
from esscher.kit.lm.sequences import Sequences, Texts
from esscher.kit.lm.tokenizer import why_not_encodable

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["TransformersLM"]

CHUNK_TOKENS = 2048
"""Most tokens per differentiated pass."""
CHUNK_LOGITS = 2**25
"""Most logits per differentiated pass: 128 MiB in float32."""
CHECKED_TOKENS = 8
DEFAULT_MAX_NEW = 64
"""Most generated tokens where neither the caller nor the folder says."""
TOLERANCE = 1e-4
"""Largest disagreement of decoding and scoring, nats per sequence of `CHECKED_TOKENS` tokens."""
TOLERANCE_HALF = 0.4
"""The same in bfloat16 and float16, whose logits carry 8 to 11 bits."""


class TransformersLM:
    """A causal model and its tokenizer, as a law over texts of at most `max_new` tokens.

    Draws follow the model's raw next-token law: temperature 1, no truncation, and nothing from
    `generation_config`. A text starts after the tokenizer's BOS token, or its EOS token where it
    has none, followed by the prompt, and ends with EOS; a text that reaches `max_new` tokens
    without EOS is cut there. Dropout stays off, in training too, so that sampling and scoring see
    the same law. Log-probabilities are float32 sums over tokens even where the weights are half
    precision.

    Args:
        model: a causal language model, on any device; samples live on the CPU.
        tokenizer: its tokenizer.
        max_new: most tokens generated, EOS included.
        chat: whether prompts are a user's messages, written out by the tokenizer's chat template.
        engine: draws the texts, which this law then scores; None for this library's sampler.

    Raises:
        ConfigError: if max_new is below 1 or beyond the model's positions, the tokenizer has no
            EOS token, or no chat template where one is wanted, or it has more ids than the model.
    """

    recipe = Recipe(lr=2e-5, floored_lr=2e-5, token_lr=2e-5, steps=150, batch=64, noisy_batch=64)

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        max_new: int = DEFAULT_MAX_NEW,
        *,
        chat: bool = False,
        engine: Engine | None = None,
    ) -> None:
        self.context = _context_of(model)
        _check_settings(model, tokenizer, max_new, self.context)
        if chat and not tokenizer.chat_template:
            raise ConfigError(
                "the tokenizer has no chat template; set tokenizer.chat_template or leave chat out"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.max_new = max_new
        self.end: int = tokenizer.eos_token_id
        bos = tokenizer.bos_token_id
        self.start: int = self.end if bos is None else bos
        self.chat = chat
        self.engine = engine
        self.network = HFNetwork(model)
        self._trained: nn.Module = Trained(model) if has_adapters(model) else model
        model.train(False)

    @classmethod
    def from_model(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        max_new: int = DEFAULT_MAX_NEW,
        *,
        chat: bool = False,
        engine: Engine | None = None,
    ) -> TransformersLM:
        """A model in memory, after a check that decoding and scoring agree.

        Raises:
            ConfigError: as the class does.
            NumericsError: if a few draws' log-probabilities differ by more than 1e-4 nats between
                decoding and scoring (0.4 in half precision), or are NaN.
        """
        lm = cls(model, tokenizer, max_new, chat=chat, engine=engine)
        lm._check_agreement()
        return lm

    @classmethod
    def load(
        cls,
        path: Path | str,
        options: ModelOptions = AS_STORED,
    ) -> TransformersLM:
        """Read a local folder in the layout of `save_pretrained`; nothing is downloaded.

        Args:
            path: the folder, with configuration, weights and tokenizer.
            options: type and place of the weights, recomputed activations, chat, length of texts,
                engine.

        Raises:
            CheckpointError: if files are missing or damaged, or weights are absent from them.
            ConfigError, NumericsError: as `from_model` does.
        """
        engine, device = get_engine(options.engine), device_of(options.device)
        model, tokenizer, saved = read_folder(Path(path), options.dtype)
        nn.Module.to(model, device)
        if options.checkpointing:
            recompute_activations(model)
        wanted = saved if options.max_new is None else options.max_new
        longest = _longest(model) if wanted is None else wanted
        return cls.from_model(model, tokenizer, longest, chat=options.chat, engine=engine)

    def save(self, path: Path | str) -> None:
        """Write model and tokenizer with `save_pretrained`, and max_new into `esscher.json`.

        Adapters are added to the weights, and written into the folder `adapter` besides.
        """
        adapted = has_adapters(self.model)
        model = merged(self.model) if adapted else self.model
        write_folder(Path(path), model, self.tokenizer, self.max_new)
        if adapted:
            write_adapter(self.model, Path(path) / ADAPTER)

    def sample(self, n: int, *, context: Context = None, rng: torch.Generator) -> Draws:
        """Draw n texts; `context` is one prompt or n of them."""
        prompts = self.prompts(context, n)
        if self.engine is None or n == 0:
            return self._draw(prompts, self.max_new, rng)
        x, claimed = self.engine.draw(self, prompts, self.max_new, rng)
        log_prob = self.log_prob(x, context=context)
        self.engine.compare(claimed, log_prob)
        return Draws(x, log_prob)

    def _draw(self, prompts: list[list[int]], max_new: int, rng: torch.Generator) -> Draws:
        return generate_by_prompt(self.network, prompts, max_new=max_new, end=self.end, rng=rng)

    def prompts(self, context: Context, n: int) -> list[list[int]]:
        """Id lists of one prompt per text, start token included."""
        room = None if self.context is None else self.context - self.max_new
        contexts = contexts_of(context, n)
        if self.chat:
            contexts = chat_prompts(self.tokenizer, contexts)
        return prompt_ids(contexts, n, start=self.start, encode=self._ids, room=room)

    def _ids(self, texts: Sequence[str], *, literal: bool = False) -> list[list[int]]:
        if not texts:
            return []
        try:
            encoded = self.tokenizer(
                list(texts), add_special_tokens=False, split_special_tokens=literal, verbose=False
            )
        except TypeError as error:
            raise DataError(why_not_encodable(texts)) from error
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def log_prob(self, x: Sequences, *, context: Context = None) -> Tensor:
        """[B] float64, nats, without a graph."""
        return gather(self.log_prob_chunks(x, context=context), len(x))

    def log_prob_chunks(
        self, x: Sequences, *, context: Context = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(index, log-probability with graph) pairs; rows of similar length share a pass."""
        return score_chunks(self.network.token_log_prob, self.passes(x, context=context))

    def passes(self, x: Sequences, *, context: Context = None) -> Iterator[Pass]:
        """The batch as the network reads it; rows of similar length share a pass."""
        prompts = self.prompts(context, len(x))
        return passes(x, prompts, max_new=self.max_new, tokens=self._chunk_tokens())

    def token_logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(ids [b, t], mask [b, t]) -> logits [N, V] at the masked positions, on the CPU."""
        return self.network.token_logits(ids, mask).cpu()

    def twist(self, *, bounded: bool = True) -> HFTwist:
        """An untrained twist of this law: a head on the states of this very network."""
        return HFTwist(self.network, bounded=bounded)

    def sequences(self, x: Sequences) -> Sequences:
        """The samples, which are token sequences."""
        return x

    def of_sequences(self, sequences: Sequences) -> Sequences:
        """Token sequences as samples."""
        return sequences

    def prefix_items(self, sequences: Sequences) -> list[str]:
        """The texts, finished or not."""
        return self.items(sequences)

    def graph_bytes(self, x: Sequences, *, context: Context = None) -> int:
        """About how many bytes the graphs of all chunks take together."""
        config = self.model.config.get_text_config()
        return graph_bytes(
            x,
            self.prompts(context, len(x)),
            tokens=self._chunk_tokens(),
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            vocab=_vocab_size(self.model),
            itemsize=self.model.dtype.itemsize,
        )

    def _chunk_tokens(self) -> int:
        return min(CHUNK_TOKENS, CHUNK_LOGITS // _vocab_size(self.model))

    def items(self, x: Sequences) -> list[str]:
        """The texts, without special tokens; they remember their token ids."""
        if not len(x):
            return []
        texts: list[str] = self.tokenizer.batch_decode(
            x.lists(keep_end=False), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return Texts(texts, x, self.tokenizer)

    def encode(self, texts: Sequence[str]) -> Sequences:
        """Texts as finished sequences, cut at max_new tokens; names of special tokens are text."""
        ids = self._ids(texts, literal=True)
        return Sequences.of_texts(ids, end=self.end, max_new=self.max_new)

    def clone(self) -> TransformersLM:
        """An independent copy; the tokenizer and frozen weights are shared."""
        twin = shared_copy(self.model)
        copied = TransformersLM(
            twin, self.tokenizer, self.max_new, chat=self.chat, engine=self.engine
        )
        copied.recipe = self.recipe
        return copied

    def module(self) -> nn.Module:
        """What is trained: the model, or its adapters where it has some."""
        return self._trained

    def _check_agreement(self) -> None:
        max_new = min(self.max_new, CHECKED_TOKENS)
        context = "Hello" if self.chat else None
        prompts = self.prompts(context, 4)
        drawn = self._draw(prompts, max_new, torch.Generator().manual_seed(0))
        with torch.enable_grad():
            scored = gather(self.log_prob_chunks(drawn.x, context=context), 4)
        gap = float((scored - drawn.log_prob).abs().max())
        half = self.model.dtype in {torch.bfloat16, torch.float16}
        allowed = TOLERANCE_HALF if half else TOLERANCE
        if not gap <= allowed:
            raise NumericsError(
                f"decoding with the cache and scoring without it differ by {gap:.3g} nats on "
                f"sequences of up to {max_new} tokens, more than the {allowed:g} allowed in "
                f"{self.model.dtype}; the model's cache or attention is not exact"
            )


def _context_of(model: PreTrainedModel) -> int | None:
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return None if limit is None else int(limit)


def _vocab_size(model: PreTrainedModel) -> int:
    weight: Tensor = model.get_input_embeddings().get_parameter("weight")
    return weight.shape[0]


def _longest(model: PreTrainedModel) -> int:
    """Length of texts where nobody names one."""
    return min(DEFAULT_MAX_NEW, _context_of(model) or DEFAULT_MAX_NEW)


def _check_settings(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new: int, context: int | None
) -> None:
    if max_new < 1:
        raise ConfigError(f"max_new must be at least 1, got {max_new}")
    if context is not None and max_new > context:
        raise ConfigError(f"max_new={max_new} exceeds the model's context of {context} tokens")
    if tokenizer.eos_token_id is None:
        raise ConfigError("the tokenizer has no EOS token, so no text could end; set its eos_token")
    if len(tokenizer) > _vocab_size(model):
        raise ConfigError(
            f"the tokenizer has {len(tokenizer)} ids, the model only {_vocab_size(model)}; "
            "call model.resize_token_embeddings or use the model's own tokenizer"
        )
