"""The small GPT and its tokenizer as one law: sample, score, clone, save."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from esscher.core.law import Draws
from esscher.errors import CheckpointError, ConfigError, DataError, MissingExtra
from esscher.kit.lm.generate import generate, generate_by_prompt
from esscher.kit.lm.gpt import GPT, GPTConfig
from esscher.kit.lm.language_model import Recipe, chunks_by_length, contexts_of
from esscher.kit.lm.sequences import Sequences
from esscher.kit.lm.tokenizer import END, BytePairTokenizer

__all__ = ["SmallLM"]

CHUNK_TOKENS = 2048
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

    recipe = Recipe(lr=2e-4, steps=150, batch=256)

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

    def sample(self, n: int, *, context: Any = None, rng: torch.Generator) -> Draws:
        """Draw n texts; `context` is one prompt or n of them."""
        prompts = self._prompts(contexts_of(context, n))
        if prompts is None:
            start = torch.tensor([END])
            drawn = generate(self.network, start, n, max_new=self.max_new, end=END, rng=rng)
            return Draws(*drawn)
        return generate_by_prompt(self.network, prompts, max_new=self.max_new, end=END, rng=rng)

    def _prompts(self, contexts: list[str] | None) -> list[list[int]] | None:
        """Id lists with the start token; each distinct text is encoded once."""
        if contexts is None:
            return None
        room = self.network.config.context - self.max_new
        distinct = list(dict.fromkeys(contexts))
        encoded = dict(zip(distinct, self.tokenizer.encode(distinct), strict=True))
        for text, ids in encoded.items():
            if len(ids) > room:
                raise DataError(
                    f"prompt {text[:60]!r} has {len(ids)} tokens, but only {room} fit beside "
                    f"max_new={self.max_new} in the context of {self.network.config.context}"
                )
        return [[END, *encoded[text]] for text in contexts]

    def log_prob(self, x: Sequences, *, context: Any = None) -> Tensor:
        """[B] float64, nats, without a graph."""
        out = torch.empty(len(x), dtype=torch.float64)
        with torch.no_grad():
            for index, log_prob in self.log_prob_chunks(x, context=context):
                out[index] = log_prob
        return out

    def log_prob_chunks(
        self, x: Sequences, *, context: Any = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(index, log-probability with graph) pairs; rows of similar length share a pass."""
        prompts = self._prompts(contexts_of(context, len(x)))
        lengths = x.lengths
        if prompts is not None:
            lengths = lengths + torch.tensor([len(p) - 1 for p in prompts], dtype=torch.long)
        for index in chunks_by_length(lengths, CHUNK_TOKENS):
            part = x.take(index)
            before = None if prompts is None else [prompts[i] for i in index.tolist()]
            yield index, self._score(part, before)

    def _score(self, x: Sequences, prompts: list[list[int]] | None) -> Tensor:
        if prompts is None:
            start = torch.full((len(x), 1), END)
            ids, mask = torch.cat([start, x.tokens[:, :-1]], 1), x.mask()
        else:
            ids, mask = x.after(prompts, END)
        states = self.network.hidden(ids)
        # Only generated positions go through the vocabulary projection.
        logits = F.linear(states[mask], self.network.embed.weight)
        token_log_prob = -F.cross_entropy(logits, x.tokens[x.mask()], reduction="none")
        rows = torch.arange(len(x)).repeat_interleave(x.lengths)
        return torch.zeros(len(x), dtype=torch.float64).index_add(0, rows, token_log_prob.double())

    def items(self, x: Sequences) -> list[str]:
        """The texts."""
        return self.tokenizer.decode(x.lists(keep_end=False))

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
            "model_type": "esscher_gpt",
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
            if settings.pop("model_type", None) != "esscher_gpt":
                raise CheckpointError(f"{path} holds a model of another kind (see its config.json)")
            max_new = settings.pop("max_new")
            network = GPT(GPTConfig(**settings), rng=torch.Generator())
            network.load_state_dict(load_file(path / "model.safetensors"))
            tokenizer = BytePairTokenizer.from_json((path / "tokenizer.json").read_text("utf-8"))
            return cls(network, tokenizer, max_new)
        except (CheckpointError, MissingExtra):
            raise
        except Exception as error:
            raise CheckpointError(f"{path} is not a readable model folder: {error}") from error
