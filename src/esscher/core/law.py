"""Probability laws: what can be sampled and scored, and `Table`, exact in everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from esscher.errors import NumericsError, ShapeError

__all__ = [
    "Context",
    "Draws",
    "Law",
    "Samples",
    "Table",
    "contexts_of",
    "items_of",
    "join",
    "take",
]


Samples = Any
"""A batch in the law's own form: an index tensor, token sequences, ..."""
Context = Any
"""One context for all samples, or a list or tuple with one for each; None where there is none."""


class Draws(NamedTuple):
    """Samples and their log-probability.

    Attributes:
        x: B samples in the law's own form (an index tensor, token sequences, ...).
        log_prob: [B] float64, nats, under the law that drew them.
    """

    x: Samples
    log_prob: Tensor


@runtime_checkable
class Law(Protocol):
    """Anything that can be sampled and scored.

    A law may also define `items(x) -> Sequence`, which turns its samples into what evidence
    functions receive (texts for a language model); without it they receive `x` itself.
    """

    def sample(self, n: int, *, context: Context = None, rng: torch.Generator) -> Draws:
        """Draw n samples, given one context for all or a sequence of n contexts."""
        ...

    def log_prob(self, x: Samples, *, context: Context = None) -> Tensor:
        """Log-probability of each sample, [B], nats."""
        ...


def items_of(law: Law, x: Samples) -> Sequence[Any]:
    """The samples as evidence functions receive them: `law.items(x)`, or x where there is none."""
    items = getattr(law, "items", None)
    found: Sequence[Any] = x if items is None else items(x)
    return found


def contexts_of(context: Context, n: int) -> Sequence[Any] | None:
    """One context per sample: None stays None, a list or tuple must hold n, all else is repeated.

    Raises:
        ShapeError: if a list or tuple of contexts does not have n entries.
    """
    if context is None:
        return None
    if not isinstance(context, list | tuple):
        return [context] * n
    if len(context) != n:
        raise ShapeError(
            f"expected one context per sample, got {len(context)} contexts for {n} samples; "
            "pass a single context (not a list) to share it"
        )
    return context


def take(x: Samples, index: Tensor) -> Samples:
    """The samples at the positions index [B] (int64), in the form of x.

    Tensors and arrays are indexed along their first axis, lists and tuples item by item; any
    other sample type must define `take(index)`.
    """
    if isinstance(x, Tensor):
        return x[index.to(x.device)]
    if isinstance(x, np.ndarray):
        return x[index.cpu().numpy()]
    if isinstance(x, list | tuple):
        return type(x)([x[i] for i in index.tolist()])
    return x.take(index)


def join(parts: Sequence[Samples]) -> Samples:
    """One batch from several of the same form; others define a classmethod `join(parts)`.

    Raises:
        ShapeError: if there is nothing to join.
    """
    if not parts:
        raise ShapeError("join needs at least one batch of samples, got none")
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, np.ndarray):
        return np.concatenate(list(parts))
    if isinstance(first, list | tuple):
        return type(first)([item for part in parts for item in part])
    return type(first).join(parts)


class Table:
    """A law on finitely many outcomes, exact in everything.

    Args:
        log_weights: [N] unnormalised log-weights, nats; -inf marks an impossible outcome.
        outcomes: what evidence functions receive for each index; the index itself by default.

    Raises:
        ShapeError: if log_weights is not one-dimensional or empty, or outcomes differs in length.
        NumericsError: if a weight is NaN or +inf, or all are -inf.

    Samples are index tensors [B] (int64).
    """

    def __init__(self, log_weights: Tensor, outcomes: Sequence[Any] | None = None) -> None:
        weights = torch.as_tensor(log_weights, dtype=torch.float64)
        if weights.ndim != 1 or len(weights) == 0:
            raise ShapeError(f"Table needs log_weights [N] with N >= 1, got {tuple(weights.shape)}")
        if outcomes is not None and len(outcomes) != len(weights):
            raise ShapeError(f"Table got {len(outcomes)} outcomes for {len(weights)} log-weights")
        if bool((weights.isnan() | (weights == torch.inf)).any()):
            where = int((weights.isnan() | (weights == torch.inf)).nonzero()[0])
            raise NumericsError(
                f"Table log-weight {where} is {float(weights[where])}; it must be < inf"
            )
        if bool((weights == -torch.inf).all()):
            raise NumericsError("every Table log-weight is -inf: no outcome is possible")
        self.log_z = float(torch.logsumexp(weights, 0))
        self.log_probs = weights - self.log_z
        self.outcomes = outcomes

    def __len__(self) -> int:
        return len(self.log_probs)

    @property
    def probs(self) -> Tensor:
        """[N] probabilities."""
        return self.log_probs.exp()

    def enumerate(self) -> Tensor:
        """Every sample once: the indices 0..N-1."""
        return torch.arange(len(self))

    def sample(self, n: int, *, context: Context = None, rng: torch.Generator) -> Draws:
        """Draw n indices; the context is ignored."""
        del context
        x = torch.multinomial(self.probs, n, replacement=True, generator=rng)
        return Draws(x, self.log_probs[x])

    def log_prob(self, x: Tensor, *, context: Context = None) -> Tensor:
        """Log-probability of each index, [B], nats."""
        del context
        return self.log_probs[x]

    def items(self, x: Tensor) -> Sequence[Any]:
        """The outcomes at the indices x."""
        indices = x.tolist()
        return indices if self.outcomes is None else [self.outcomes[i] for i in indices]

    def expectation(self, values: Tensor | Callable[[Tensor], Tensor]) -> float:
        """E[values] for values [N] or a function of the indices; impossible outcomes count 0."""
        v = values(self.enumerate()) if callable(values) else values
        return float(torch.where(self.log_probs == -torch.inf, 0.0, self.probs * v).sum())

    def entropy(self) -> float:
        """Shannon entropy, nats."""
        return -self.expectation(self.log_probs)

    def kl(self, other: Table) -> float:
        """KL(self || other), nats, in [0, inf]; inf where other misses an outcome of self.

        Raises:
            ShapeError: if the two laws differ in their number of outcomes.
        """
        if len(self) != len(other):
            raise ShapeError(f"KL needs equal supports, got {len(self)} and {len(other)} outcomes")
        return self.expectation(self.log_probs - other.log_probs)
