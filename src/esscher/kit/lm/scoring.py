"""What every network-backed law shares: prompts as ids, and log-probabilities in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from esscher.errors import DataError
from esscher.kit.lm.language_model import chunks_by_length
from esscher.kit.lm.sequences import Sequences

__all__ = ["gather", "graph_bytes", "prompt_ids", "score_chunks"]

Encode = Callable[[list[str]], list[list[int]]]
TokenLogits = Callable[[Tensor, Tensor], Tensor]
"""(ids [b, t], mask [b, t]) -> logits [N, V] at the N masked positions, row by row."""


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


def score_chunks(
    token_logits: TokenLogits,
    x: Sequences,
    prompts: Sequence[Sequence[int]],
    *,
    max_new: int,
    tokens: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """(index [b], log-probability [b] in float64 nats) pairs; rows of similar length share a pass.

    Args:
        token_logits: the network; its graph is kept where the caller's grad mode keeps it.
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
        logits = token_logits(ids, mask)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target = part.tokens[part.mask()].to(logits.device)
        token_log_prob = -nn.functional.cross_entropy(logits, target, reduction="none")
        rows = torch.arange(len(part)).repeat_interleave(part.lengths)
        zeros = torch.zeros(len(part), dtype=torch.float64)
        yield index, zeros.index_add(0, rows, token_log_prob.double().cpu())


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
