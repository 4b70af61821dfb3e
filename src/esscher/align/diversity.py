"""How varied a sample of sequences is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from esscher.core.estimate import Estimate, from_samples

__all__ = ["distinct_n", "self_bleu", "token_lists", "unique_share"]

GROUP = 64
"""Sequences per group: distinct-n falls with the number of sequences, so it is fixed."""
COMPARED = 256
"""Sequences in self-BLEU, which grows with their number."""
UNSEEN = 0.1
"""Matches of an n-gram length that has none (Chen and Cherry 2014, method 1)."""


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


def unique_share(tokens: Sequence[Sequence[Any]]) -> Estimate:
    """Share of different sequences among all, in (0, 1]; it falls with their number."""
    share = len({tuple(row) for row in tokens}) / len(tokens)
    return Estimate(share, math.sqrt(share * (1 - share) / len(tokens)), len(tokens))


def self_bleu(tokens: Sequence[Sequence[Any]], n: int = 4) -> Estimate:
    """Mean BLEU of each of the first 256 sequences against all others of them, in [0, 1].

    1 where all are the same; lower is more varied. The standard error treats them as independent.

    Args:
        tokens: at least two sequences.
        n: longest n-grams; a sequence shorter than n is compared up to its own length.

    Reference: Zhu et al. (2018, Texygen); Papineni et al. (2002) for BLEU.
    """
    rows = [list(row) for row in tokens[:COMPARED]]
    counts = [[Counter(_grams(row, k)) for k in range(1, n + 1)] for row in rows]
    best = [_two_best([row[k] for row in counts]) for k in range(n)]
    lengths = [len(row) for row in rows]
    values = [_bleu(i, counts[i], best, lengths) for i in range(len(rows))]
    estimate = from_samples(torch.tensor(values, dtype=torch.float64))
    return Estimate(estimate.mean, estimate.se, len(rows))


Best = dict[tuple[Any, ...], tuple[int, int, int]]
"""Of every n-gram its highest count in a sequence, which one that is, and the highest elsewhere."""


def _two_best(counts: Sequence[Counter[tuple[Any, ...]]]) -> Best:
    best: Best = {}
    for i, own in enumerate(counts):
        for gram, count in own.items():
            top, owner, second = best.get(gram, (0, -1, 0))
            if count > top:
                best[gram] = (count, i, top)
            elif count > second:
                best[gram] = (top, owner, count)
    return best


def _bleu(
    i: int, own: Sequence[Counter[tuple[Any, ...]]], best: Sequence[Best], lengths: Sequence[int]
) -> float:
    """BLEU of sequence i against all others."""
    logs = []
    for counts, known in zip(own, best, strict=True):
        total = sum(counts.values())
        if total == 0:
            break
        matches = 0
        for gram, count in counts.items():
            top, owner, second = known[gram]
            matches += min(count, second if owner == i else top)
        logs.append(math.log(max(matches, UNSEEN) / total))
    if not logs:
        return 0.0
    others = (n for j, n in enumerate(lengths) if j != i)
    nearest = min(others, key=lambda n: (abs(n - lengths[i]), n))
    return min(1.0, math.exp(1 - nearest / lengths[i])) * math.exp(sum(logs) / len(logs))
