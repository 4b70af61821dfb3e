"""The small GPT and its tokenizer as one law: sample, score, clone, save."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from esscher.core.law import Context, Draws
from esscher.errors import CheckpointError, ConfigError, MissingExtra
from esscher.kit.lm.fused import token_log_prob
from esscher.kit.lm.generate import generate_by_prompt
from esscher.kit.lm.gpt import GPT, GPTConfig
from esscher.kit.lm.language_model import Recipe, contexts_of
from esscher.kit.lm.scoring import Pass, gather, graph_bytes, passes, prompt_ids, score_chunks
from esscher.kit.lm.sequences import Sequences, Texts
from esscher.kit.lm.tokenizer import END, BytePairTokenizer
from esscher.kit.lm.twist import Twist

__all__ = ["MODEL_TYPE", "SmallLM"]

MODEL_TYPE = "esscher_gpt"
"""What `config.json` calls a model of ours."""

CHUNK_TOKENS = 1024
"""Tokens per differentiated pass: fills the matrix units, and activations stay in the cache."""


class SmallLM:
    """A `GPT` with its tokenizer, as a law over texts of at most `max_new` tokens.

    A text that reaches `max_new` tokens without the end token is cut there; cut texts are outcomes
    of their own, so the law is normalised.

    Args:
        network: the transformer.
        tokenizer: maps texts to its ids; id 0 starts and ends a text.
        max_new: most tokens generated, the end token included.

    Raises:
        ConfigError: if max_new leaves no room in the network's context or is below 1.
    """

    recipe = Recipe(lr=6e-5, floored_lr=2e-5, token_lr=2e-4, steps=200, batch=256, noisy_batch=256)

    def __init__(self, network: GPT, tokenizer: BytePairTokenizer, max_new: int) -> None:
        if not 1 <= max_new <= network.config.context:
            raise ConfigError(
                f"max_new must lie between 1 and the context of {network.config.context} tokens, "
                f"got {max_new}"
            )
        if tokenizer.vocab_size > network.config.vocab_size:
            raise ConfigError(
                f"the tokenizer has {tokenizer.vocab_size} ids, the network only "
                f"{network.config.vocab_size}"
            )
        self.network = network
        self.tokenizer = tokenizer
        self.max_new = max_new
        self.end = END

    def sample(self, n: int, *, context: Context = None, rng: torch.Generator) -> Draws:
        """Draw n texts; `context` is one prompt or n of them."""
        prompts = self.prompts(context, n)
        return generate_by_prompt(self.network, prompts, max_new=self.max_new, end=END, rng=rng)

    def prompts(self, context: Context, n: int) -> list[list[int]]:
        """Id lists of one prompt per text, start token included."""
        room = self.network.config.context - self.max_new
        contexts = contexts_of(context, n)
        return prompt_ids(contexts, n, start=END, encode=self.tokenizer.encode, room=room)

    def log_prob(self, x: Sequences, *, context: Context = None) -> Tensor:
        """[B] float64, nats, without a graph."""
        return gather(self.log_prob_chunks(x, context=context), len(x))

    def log_prob_chunks(
        self, x: Sequences, *, context: Context = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(index, log-probability with graph) pairs; rows of similar length share a pass."""
        return score_chunks(self._token_log_prob, self.passes(x, context=context))

    def passes(self, x: Sequences, *, context: Context = None) -> Iterator[Pass]:
        """The batch as the network reads it; rows of similar length share a pass."""
        prompts = self.prompts(context, len(x))
        return passes(x, prompts, max_new=self.max_new, tokens=CHUNK_TOKENS)

    def graph_bytes(self, x: Sequences, *, context: Context = None) -> int:
        """About how many bytes the graphs of all chunks take together."""
        c = self.network.config
        prompts = self.prompts(context, len(x))
        shape = {"layers": c.layers, "width": c.width, "vocab": c.vocab_size}
        return graph_bytes(x, prompts, tokens=CHUNK_TOKENS, **shape)

    def _token_log_prob(self, part: Pass) -> Tensor:
        states = self.network.states_at(part.ids, part.mask)
        return token_log_prob(states, self.network.embed.weight, part.target)

    def token_logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(ids [b, t], mask [b, t]) -> logits [N, V] at the masked positions, row by row."""
        states = self.network.states_at(ids, mask)
        return nn.functional.linear(states, self.network.embed.weight)

    def twist(self, *, bounded: bool = True) -> Twist:
        """An untrained twist of this law, worth the same everywhere."""
        return Twist(self.network, bounded=bounded)

    def sequences(self, x: Sequences) -> Sequences:
        """The samples, which are token sequences."""
        return x

    def of_sequences(self, sequences: Sequences) -> Sequences:
        """Token sequences as samples."""
        return sequences

    def prefix_items(self, sequences: Sequences) -> list[str]:
        """The texts, finished or not."""
        return self.items(sequences)

    def items(self, x: Sequences) -> list[str]:
        """The texts, which remember their token ids."""
        return Texts(self.tokenizer.decode(x.lists(keep_end=False)), x, self.tokenizer)

    def encode(self, texts: Sequence[str]) -> Sequences:
        """Texts as finished sequences, cut at max_new tokens."""
        return Sequences.of_texts(self.tokenizer.encode(texts), end=END, max_new=self.max_new)

    def clone(self) -> SmallLM:
        """An independent copy; the tokenizer is shared."""
        return SmallLM(copy.deepcopy(self.network), self.tokenizer, self.max_new)

    def module(self) -> nn.Module:
        """The network."""
        return self.network

    def save(self, path: Path) -> None:
        """Write `model.safetensors`, `config.json` and `tokenizer.json` into a folder."""
        path.mkdir(parents=True, exist_ok=True)
        save_file(self.network.state_dict(), path / "model.safetensors")
        (path / "tokenizer.json").write_text(self.tokenizer.to_json(), encoding="utf-8")
        settings = {
            "model_type": MODEL_TYPE,
            "max_new": self.max_new,
            **asdict(self.network.config),
        }
        (path / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> SmallLM:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the folder is not a model of ours or a file is damaged.
        """
        try:
            settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
            kind = settings.pop("model_type", None)
            if kind == MODEL_TYPE:
                max_new = settings.pop("max_new")
                network = GPT(GPTConfig(**settings), rng=torch.Generator())
                network.load_state_dict(load_file(path / "model.safetensors"))
                tokenizer = BytePairTokenizer.from_json(
                    (path / "tokenizer.json").read_text("utf-8")
                )
                return cls(network, tokenizer, max_new)
        except MissingExtra:
            raise
        except Exception as error:
            raise CheckpointError(f"{path} is not a readable model folder: {error}") from error
        raise CheckpointError(
            f"{path} holds a model of type {kind!r}, expected {MODEL_TYPE!r}; "
            "load_language_model reads every type"
        )
