"""How varied a sample of sequences is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from esscher.core.estimate import Estimate, from_samples

__all__ = ["distinct_n", "token_lists"]

GROUP = 64
"""Sequences per group: distinct-n falls with the number of sequences, so it is fixed."""


def token_lists(x: Any, items: Sequence[Any]) -> list[list[Any]]:
    """The draws as lists of tokens: their ids where the form has them, else the items."""
    lists = getattr(x, "lists", None)
    return lists() if lists is not None else [list(item) for item in items]


def distinct_n(tokens: Sequence[Sequence[Any]], n: int = 2) -> Estimate:
    """Share of distinct n-grams among all of a group of 64 sequences, averaged over groups.

    The last group may be smaller if it is the only one; sequences shorter than n have no n-gram,
    and a sample without any counts as 0.

    Reference: Li et al. (2016), distinct-n.
    """
    whole = len(tokens) // GROUP * GROUP
    stops = range(GROUP, whole + 1, GROUP) if whole else [len(tokens)]
    values = [_distinct(tokens[max(0, stop - GROUP) : stop], n) for stop in stops]
    estimate = from_samples(torch.tensor(values, dtype=torch.float64))
    return Estimate(estimate.mean, estimate.se, len(tokens))


def _distinct(tokens: Sequence[Sequence[Any]], n: int) -> float:
    grams = [g for row in tokens for g in _grams(row, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _grams(row: Sequence[Any], n: int) -> list[tuple[Any, ...]]:
    return [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]
