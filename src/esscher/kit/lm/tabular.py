"""A language model small enough to enumerate: the ground truth for every objective and estimate."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from esscher.core.law import Context, Draws
from esscher.errors import CheckpointError, ConfigError
from esscher.kit.lm.language_model import Recipe
from esscher.kit.lm.prefixes import PrefixTable, TabularTwist
from esscher.kit.lm.scoring import Pass, passes
from esscher.kit.lm.sequences import Sequences

__all__ = ["TabularLM"]

CHUNK_TOKENS = 2**16
"""Most tokens per pass: a table has no activations to keep."""


class TabularLM:
    """One free logit per prefix and next token, over all strings of at most `max_len` letters.

    Letters are 0 … alphabet-1 and the end token is `alphabet`. An outcome is a string of fewer than
    `max_len` letters with its end token, or exactly `max_len` letters cut off; three letters and
    length five give 364 outcomes, 121 prefixes and 484 parameters. Samples are index tensors [B]
    into `enumerate()`; evidence functions receive token-id lists with the end token.

    Args:
        alphabet: number of letters, at least 1.
        max_len: longest string, at least 1.
        seed: of the initial logits, N(0, 0.7²) in float64.

    Raises:
        ConfigError: if a size is below 1 or there are more than a million outcomes.
    """

    recipe = Recipe(
        lr=0.02, floored_lr=0.02, token_lr=0.02, steps=600, batch=1024, noisy_batch=32768
    )

    def __init__(self, alphabet: int = 3, max_len: int = 5, seed: int = 0) -> None:
        if alphabet < 1 or max_len < 1:
            raise ConfigError(
                f"alphabet and max_len must be at least 1, got {alphabet} and {max_len}"
            )
        n_outcomes = sum(alphabet**t for t in range(max_len + 1))
        if n_outcomes > 1_000_000:
            raise ConfigError(
                f"alphabet={alphabet} and max_len={max_len} give {n_outcomes:,} outcomes; at most "
                "1,000,000 can be enumerated"
            )
        self.alphabet, self.max_len, self.seed = alphabet, max_len, seed
        self.end, self.max_new = alphabet, max_len
        n_prefixes = sum(alphabet**t for t in range(max_len))
        rng = torch.Generator().manual_seed(seed)
        logits = 0.7 * torch.randn(n_prefixes, alphabet + 1, dtype=torch.float64, generator=rng)
        self.network = PrefixTable(logits)
        strings = (
            s for t in range(max_len + 1) for s in itertools.product(range(alphabet), repeat=t)
        )
        self._outcomes = [[*s, alphabet] if len(s) < max_len else list(s) for s in strings]
        self._cells = _cells(alphabet, max_len).flatten()

    def enumerate(self) -> Tensor:
        """Every outcome once, [N] int64, shorter strings first, then by letters."""
        return torch.arange(len(self._outcomes))

    def log_probs(self) -> Tensor:
        """[N] float64 log-probabilities of all outcomes, nats, differentiable."""
        step = torch.log_softmax(self.network.logits, 1).flatten()
        step = torch.cat([step, step.new_zeros(1)])
        return step.index_select(0, self._cells).view(-1, self.max_len).sum(1)

    def sample(self, n: int, *, context: Context = None, rng: torch.Generator) -> Draws:
        """Draw n outcome indices; the context is ignored."""
        del context
        with torch.no_grad():
            log_probs = self.log_probs()
            x = torch.multinomial(log_probs.exp(), n, replacement=True, generator=rng)
        return Draws(x, log_probs[x])

    def log_prob(self, x: Tensor, *, context: Context = None) -> Tensor:
        """[B] float64, nats, without a graph."""
        del context
        with torch.no_grad():
            return self.log_probs()[x]

    def log_prob_chunks(
        self, x: Tensor, *, context: Context = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The whole batch as one differentiable chunk."""
        del context
        yield torch.arange(len(x)), self.log_probs()[x]

    def graph_bytes(self, x: Tensor, *, context: Context = None) -> int:
        """The table of all log-probabilities, whatever is scored."""
        del x, context
        return 8 * len(self._outcomes)

    def items(self, x: Tensor) -> list[list[int]]:
        """Token-id lists, end token included."""
        return [self._outcomes[i] for i in x.tolist()]

    def sequences(self, x: Tensor) -> Sequences:
        """Outcome indices [B] as token sequences."""
        cut = [row[:-1] if row[-1] == self.alphabet else row for row in self.items(x)]
        return Sequences.of_texts(cut, end=self.alphabet, max_new=self.max_len)

    def of_sequences(self, sequences: Sequences) -> Tensor:
        """Outcome indices [B] of token sequences."""
        x = torch.zeros(len(sequences), dtype=torch.int64)
        letters = sequences.lengths - sequences.finished.long()
        for t in range(sequences.tokens.shape[1]):
            x = torch.where(t < letters, self.network.child(x, sequences.tokens[:, t]), x)
        return x

    def prefix_items(self, sequences: Sequences) -> list[list[int]]:
        """Token-id lists, finished or not, end token included."""
        return sequences.lists()

    def prompts(self, context: Context, n: int) -> list[list[int]]:
        """The start id, n times; the context is ignored."""
        del context
        return [[self.alphabet]] * n

    def passes(self, x: Tensor, *, context: Context = None) -> Iterator[Pass]:
        """The batch as the network reads it."""
        prompts = self.prompts(context, len(x))
        return passes(self.sequences(x), prompts, max_new=self.max_len, tokens=CHUNK_TOKENS)

    def token_logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(ids [b, t], mask [b, t]) -> logits [N, V] at the masked positions, row by row."""
        return self.network.logits[self.network.states_at(ids, mask)]

    def twist(self, *, bounded: bool = True) -> TabularTwist:
        """An untrained twist of this law."""
        return TabularTwist(self.network, bounded=bounded)

    def clone(self) -> TabularLM:
        """An independent copy."""
        copy = TabularLM(self.alphabet, self.max_len, self.seed)
        copy.module().load_state_dict(self.network.state_dict())
        return copy

    def module(self) -> nn.Module:
        """The logits."""
        return self.network

    def save(self, path: Path) -> None:
        """Write `tabular.safetensors` into a folder."""
        path.mkdir(parents=True, exist_ok=True)
        shape = {
            "alphabet": str(self.alphabet),
            "max_len": str(self.max_len),
            "seed": str(self.seed),
        }
        save_file(self.network.state_dict(), path / "tabular.safetensors", metadata=shape)

    @classmethod
    def load(cls, path: Path) -> TabularLM:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file is missing or damaged.
        """
        try:
            with safe_open(path / "tabular.safetensors", "pt") as file:
                model = cls(**{k: int(v) for k, v in file.metadata().items()})
                model.module().load_state_dict({k: file.get_tensor(k) for k in file.keys()})  # noqa: SIM118
        except Exception as error:
            raise CheckpointError(f"{path} holds no readable tabular model: {error}") from error
        return model


def _cells(alphabet: int, max_len: int) -> Tensor:
    """Where the table keeps the tokens of every outcome, [N, max_len] int64 into prefixes x tokens.

    Places after an outcome's end point one past the table.
    """
    prefixes = torch.zeros(1, 0, dtype=torch.int64)
    levels, first = [], 0
    for _ in range(max_len):
        rows = torch.arange(first, first + len(prefixes)) * (alphabet + 1)
        first += len(prefixes)
        levels.append(torch.cat([prefixes, rows[:, None] + alphabet], 1))
        letters = rows[:, None] + torch.arange(alphabet)
        paths = prefixes.repeat_interleave(alphabet, 0)
        prefixes = torch.cat([paths, letters.reshape(-1, 1)], 1)
    beyond = first * (alphabet + 1)
    padded = [
        nn.functional.pad(level, (0, max_len - level.shape[1]), value=beyond) for level in levels
    ]
    return torch.cat([*padded, prefixes])
