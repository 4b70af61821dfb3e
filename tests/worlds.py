"""Enumerable worlds: laws small enough that every number about them is exact."""

import itertools
from functools import cache

import numpy as np
import torch
from torch import Tensor

from esscher.core import Reward, Table, Target

ALPHABET = "abc"
MAX_LEN = 5
EOS = len(ALPHABET)
BETA = 0.5

PREFIXES = ["".join(p) for n in range(MAX_LEN) for p in itertools.product(ALPHABET, repeat=n)]
SEQUENCES = ["".join(p) for n in range(MAX_LEN + 1) for p in itertools.product(ALPHABET, repeat=n)]


def toy_reward(texts: list[str]) -> list[float]:
    """Occurrences of "ab", half a point for a "c", and a small price per letter."""
    return [t.count("ab") + 0.5 * ("c" in t) - 0.25 * len(t) / MAX_LEN for t in texts]


@cache
def prior_logits() -> Tensor:
    """[121, 4] next-letter logits N(0, 0.7^2), numpy seed 0; the last column ends the text."""
    return torch.from_numpy(np.random.default_rng(0).normal(0.0, 0.7, (len(PREFIXES), EOS + 1)))


@cache
def _steps() -> tuple[Tensor, Tensor]:
    row = {p: i for i, p in enumerate(PREFIXES)}
    index = torch.zeros(len(SEQUENCES), MAX_LEN, dtype=torch.int64)
    used = torch.zeros(len(SEQUENCES), MAX_LEN, dtype=torch.bool)
    for i, text in enumerate(SEQUENCES):
        moves = [ALPHABET.index(c) for c in text] + [EOS] * (len(text) < MAX_LEN)
        for t, move in enumerate(moves):
            index[i, t], used[i, t] = row[text[:t]] * (EOS + 1) + move, True
    return index, used


def sequence_log_probs(logits: Tensor) -> Tensor:
    """[364] log-probabilities of all texts, differentiable in the logits [121, 4]."""
    index, used = _steps()
    return (torch.log_softmax(logits, 1).flatten()[index] * used).sum(1)


def conditional_logits(log_probs: Tensor) -> Tensor:
    """[121, 4] next-letter log-probabilities of the sequence law [364]."""
    probs = log_probs.exp()
    mass = dict.fromkeys(PREFIXES + SEQUENCES, 0.0)
    for text, p in zip(SEQUENCES, probs.tolist(), strict=True):
        for t in range(len(text) + 1):
            mass[text[:t]] += p
    ends = dict(zip(SEQUENCES, probs.tolist(), strict=True))
    rows = [[mass[p + c] / mass[p] for c in ALPHABET] + [ends[p] / mass[p]] for p in PREFIXES]
    return torch.tensor(rows, dtype=torch.float64).log()


@cache
def toy_prior() -> Table:
    """The prior over 364 texts."""
    return Table(sequence_log_probs(prior_logits()), SEQUENCES)


@cache
def toy_target() -> Target:
    """Prior × reward at beta 0.5."""
    return Target(toy_prior(), Reward(toy_reward, beta=BETA))


@cache
def toy_posterior() -> Table:
    """The exact posterior of `toy_target`."""
    return toy_target().table()


def random_law(n: int, seed: int, scale: float = 1.0) -> Tensor:
    """[n] normalised log-probabilities, softmax of N(0, scale^2)."""
    return torch.log_softmax(scale * torch.randn(n, generator=seeded(seed), dtype=torch.float64), 0)


def seeded(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)
