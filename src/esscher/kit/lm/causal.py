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
from esscher.errors import CheckpointError, ConfigError, DataError
from esscher.kit.lm.generate import generate
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
        contexts = contexts_of(context, n)
        if contexts is None:
            return Draws(*self._generate([], n, rng))
        groups: dict[str, list[int]] = {}
        for i, text in enumerate(contexts):
            groups.setdefault(text, []).append(i)
        prompts = dict(zip(groups, self._encode_prompts(list(groups)), strict=True))
        parts = [self._generate(prompts[text], len(rows), rng) for text, rows in groups.items()]
        order = torch.argsort(torch.tensor([i for rows in groups.values() for i in rows]))
        x = Sequences.join([p[0] for p in parts]).take(order)
        return Draws(x, torch.cat([p[1] for p in parts])[order])

    def _generate(
        self, prompt: Sequence[int], n: int, rng: torch.Generator
    ) -> tuple[Sequences, Tensor]:
        start = torch.tensor([END, *prompt])
        return generate(self.network, start, n, max_new=self.max_new, end=END, rng=rng)

    def _encode_prompts(self, texts: list[str]) -> list[list[int]]:
        room = self.network.config.context - self.max_new
        prompts = self.tokenizer.encode(texts)
        for text, ids in zip(texts, prompts, strict=True):
            if len(ids) > room:
                raise DataError(
                    f"prompt {text[:60]!r} has {len(ids)} tokens, but only {room} fit beside "
                    f"max_new={self.max_new} in the context of {self.network.config.context}"
                )
        return prompts

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
        contexts = contexts_of(context, len(x))
        prompts = None if contexts is None else self._encode_prompts(contexts)
        lengths = x.lengths
        if prompts is not None:
            lengths = lengths + torch.tensor([len(p) for p in prompts])
        for index in chunks_by_length(lengths, CHUNK_TOKENS):
            part = x.take(index)
            before = None if prompts is None else [prompts[i] for i in index.tolist()]
            yield index, self._score(part, before)

    def _score(self, x: Sequences, prompts: list[list[int]] | None) -> Tensor:
        if prompts is None:
            start = torch.full((len(x), 1), END)
            states = self.network.hidden(torch.cat([start, x.tokens[:, :-1]], 1))
            mask = x.mask()
        else:
            states, mask = self._prompted_states(x, prompts)
        # Only generated positions go through the vocabulary projection.
        logits = F.linear(states[mask], self.network.embed.weight)
        token_log_prob = -F.cross_entropy(logits, x.tokens[x.mask()], reduction="none")
        rows = torch.arange(len(x)).repeat_interleave(x.lengths)
        return torch.zeros(len(x), dtype=torch.float64).index_add(0, rows, token_log_prob.double())

    def _prompted_states(self, x: Sequences, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Final states of start + prompt + text, and the mask of those that predict the text."""
        rows = [[END, *p, *t[:-1]] for p, t in zip(prompts, x.lists(), strict=True)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [END] * (width - len(row)) for row in rows])
        position = torch.arange(width)
        first = torch.tensor([len(p) for p in prompts])[:, None]
        return self.network.hidden(ids), (position >= first) & (
            position < first + x.lengths[:, None]
        )

    def items(self, x: Sequences) -> list[str]:
        """The texts."""
        return self.tokenizer.decode(x.lists(keep_end=False))

    def encode(self, texts: Sequence[str]) -> Sequences:
        """Texts as finished sequences, cut at max_new tokens."""
        ids = [[*row, END] for row in self.tokenizer.encode(texts)]
        lengths = torch.tensor([min(len(row), self.max_new) for row in ids])
        finished = torch.tensor([len(row) <= self.max_new for row in ids])
        width = int(lengths.max())
        tokens = torch.tensor([(row + [END] * width)[:width] for row in ids])
        return Sequences(tokens, lengths, finished)

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
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(f"{path} is not a readable model folder: {error}") from error
        return cls(network, tokenizer, max_new)
