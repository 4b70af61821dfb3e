"""Language models that can be looked into token by token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from esscher.core.law import Context, Samples
from esscher.kit.lm.generate import Decodable, Decoder
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.scoring import Pass
from esscher.kit.lm.sequences import Sequences

__all__ = ["TokenModel", "TwistModule"]


class TwistModule(Protocol):
    """A learnable ψ over prefixes; see `twist.Twist`."""

    bounded: bool

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(ids [b, t], mask [b, t]) -> states of the N masked positions, row by row."""
        ...

    def values(self, states: Tensor) -> Tensor:
        """States -> log-odds, or log ψ where unbounded, [N, V] of every next token."""
        ...

    def values_of(self, states: Tensor, chosen: Tensor) -> Tensor:
        """States -> `values` [N] of the chosen next tokens."""
        ...

    def fill(self, worth: float) -> None:
        """Make an untrained twist give every prefix log ψ = `worth`, nats."""
        ...

    def prefill(self, prompts: Tensor, owner: Tensor, max_new: int) -> tuple[Tensor, Decoder]:
        """Log ψ [n, V] after the prompts, and how to go on."""
        ...


@runtime_checkable
class TokenModel(LanguageModel, Protocol):
    """A language model whose next-token laws are open: it can be guided, twisted and credited.

    Attributes:
        network: gives the logits of what follows, a token at a time.
        end: id that ends a sequence.
        max_new: most tokens of a sequence.
    """

    network: Decodable
    end: int
    max_new: int

    def prompts(self, context: Context, n: int) -> list[list[int]]:
        """Id lists of n prompts, start token included."""
        ...

    def sequences(self, x: Samples) -> Sequences:
        """Samples as token sequences."""
        ...

    def of_sequences(self, sequences: Sequences) -> Samples:
        """Token sequences as samples."""
        ...

    def prefix_items(self, sequences: Sequences) -> Any:
        """Sequences that may be unfinished as `items` shows finished ones."""
        ...

    def passes(self, x: Any, *, context: Context = None) -> Iterator[Pass]:
        """The batch as the network reads it."""
        ...

    def token_logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(ids [b, t], mask [b, t]) -> logits [N, V] at the masked positions, row by row."""
        ...

    def twist(self, *, bounded: bool = True) -> Any:
        """An untrained twist of this law, an `nn.Module` with the calls of `TwistModule`."""
        ...
