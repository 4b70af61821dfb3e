"""What every network-backed law shares: prompts as ids, and log-probabilities in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from esscher.errors import DataError
from esscher.kit.lm.language_model import chunks_by_length
from esscher.kit.lm.sequences import Sequences

__all__ = ["Pass", "gather", "graph_bytes", "passes", "prompt_ids", "score_chunks"]

Encode = Callable[[list[str]], list[list[int]]]


def prompt_ids(
    contexts: Sequence[str] | None, n: int, *, start: int, encode: Encode, room: int | None
) -> list[list[int]]:
    """Id lists of n prompts, each with the start token in front.

    Args:
        contexts: n texts, or none for the start token alone.
        n: number of prompts.
        start: id of the start token; a prompt that already begins with it is not given another.
        encode: texts to ids; called once with the distinct texts.
        room: most ids a prompt may have beside the start token; None for no limit.

    Raises:
        DataError: if a prompt is longer.
    """
    if contexts is None:
        return [[start]] * n
    distinct = list(dict.fromkeys(contexts))
    prompts = {}
    for text, ids in zip(distinct, encode(distinct), strict=True):
        prompts[text] = ids if ids[:1] == [start] else [start, *ids]
        if room is not None and len(prompts[text]) > room + 1:
            raise DataError(
                f"prompt {text[:60]!r} has {len(ids)} tokens, but only {room} fit into the "
                "network's context beside max_new generated ones; shorten it or lower max_new"
            )
    return [prompts[text] for text in contexts]


class Pass(NamedTuple):
    """Some sequences of a batch as a network reads them to score them.

    Attributes:
        rows: [b] which sequences.
        ids: [b, t] prompts and sequences without their last token, padded on the right.
        mask: [b, t] the positions that predict a token of the sequence.
        target: [N] the tokens predicted there, row by row.
        lengths: [b] tokens per row, summing to N.
    """

    rows: Tensor
    ids: Tensor
    mask: Tensor
    target: Tensor
    lengths: Tensor


TokenLogProb = Callable[[Pass], Tensor]
"""Log-probabilities [N] of a pass's target tokens."""


def passes(
    x: Sequences, prompts: Sequence[Sequence[int]], *, max_new: int, tokens: int
) -> Iterator[Pass]:
    """The batch in passes of sequences of similar length, each sequence once.

    Args:
        x: B sequences.
        prompts: B id lists, start token included.
        max_new: longest sequence the law generates.
        tokens: most tokens per pass, padding included.

    Raises:
        DataError: if a sequence is longer than max_new.
    """
    longest = int(x.lengths.max()) if len(x) else 0
    if longest > max_new:
        raise DataError(
            f"a sequence has {longest} tokens, but this law generates at most {max_new}; "
            "score it under a law with a larger max_new"
        )
    before = torch.tensor([len(p) - 1 for p in prompts], dtype=torch.long)
    for index in chunks_by_length(x.lengths + before, tokens):
        part = x.take(index)
        ids, mask = part.after([prompts[i] for i in index.tolist()], pad=0)
        yield Pass(index, ids, mask, part.tokens[part.mask()], part.lengths)


def score_chunks(
    token_log_prob: TokenLogProb, parts: Iterable[Pass]
) -> Iterator[tuple[Tensor, Tensor]]:
    """(index [b], log-probability [b] in float64 nats) pairs.

    Args:
        token_log_prob: the network; its graph is kept where the caller's grad mode keeps it.
        parts: of `passes`.
    """
    for part in parts:
        rows = torch.arange(len(part.rows)).repeat_interleave(part.lengths)
        zeros = torch.zeros(len(part.rows), dtype=torch.float64)
        yield part.rows, zeros.index_add(0, rows, token_log_prob(part).double().cpu())


def graph_bytes(
    x: Sequences,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int,
    layers: int,
    width: int,
    vocab: int,
    itemsize: int = 4,
) -> int:
    """About what autograd keeps of `score_chunks` for a transformer, bytes.

    Per token and layer: the inputs of two norms, of the attention (q, k, v, output), of its
    projection and of a four times wider perceptron before and after its non-linearity, 20 widths in
    all with what the residual stream adds; per token: logits, their softmax and its gradient.
    """
    lengths = x.lengths + torch.tensor([len(p) - 1 for p in prompts], dtype=torch.long)
    padded = sum(len(i) * int(lengths[i].max()) for i in chunks_by_length(lengths, tokens))
    return padded * itemsize * (20 * layers * width + 3 * vocab)


@torch.no_grad()
def gather(chunks: Iterable[tuple[Tensor, Tensor]], n: int) -> Tensor:
    """The chunks of `score_chunks` as one tensor [n], without a graph."""
    out = torch.empty(n, dtype=torch.float64)
    for index, log_prob in chunks:
        out[index] = log_prob
    return out
