"""Token sequences as a reward network reads them: whole, with the state after the last token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from esscher.errors import DataError
from esscher.kit.lm.language_model import chunks_by_length
from esscher.kit.lm.sequences import Sequences

__all__ = ["Reading", "readings"]

CHUNK_TOKENS = 2048
"""Most tokens per pass."""


class Reading(NamedTuple):
    """Some sequences of a batch, prompts in front, padded on the right.

    Attributes:
        rows: [b] which sequences.
        ids: [b, t] prompts and sequences, their end tokens included.
        mask: [b, t] the last token of each row.
    """

    rows: Tensor
    ids: Tensor
    mask: Tensor


def readings(
    x: Sequences, prompts: Sequence[Sequence[int]], *, limit: int | None
) -> Iterator[Reading]:
    """The batch in passes of sequences of similar length, each sequence once.

    A law never reads the last token it writes, so that a prompt and a text may be one token longer
    than its network's context; of these the last token stays unread.

    Args:
        x: B sequences.
        prompts: B id lists, start token included.
        limit: most tokens the network reads; None for no limit.

    Raises:
        DataError: if a sequence is longer still.
    """
    rows = [[*prompt, *ids] for prompt, ids in zip(prompts, x.lists(), strict=True)]
    if limit is not None:
        longest = max(map(len, rows), default=0)
        if longest > limit + 1:
            raise DataError(
                f"a prompt and its text have {longest} tokens together, but the network reads at "
                f"most {limit}; shorten one of them"
            )
        rows = [row[:limit] for row in rows]
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
    for index in chunks_by_length(lengths, CHUNK_TOKENS):
        part, width = [rows[i] for i in index.tolist()], int(lengths[index].max())
        ids = torch.tensor([row + [0] * (width - len(row)) for row in part])
        yield Reading(index, ids, torch.arange(width) == lengths[index][:, None] - 1)
