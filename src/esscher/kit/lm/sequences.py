"""Token sequences as a batch: the samples of every language model here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esscher.errors import ShapeError

__all__ = ["Sequences", "Texts"]


@dataclass(frozen=True)
class Sequences:
    """B generated sequences, without their prompts.

    Attributes:
        tokens: [B, T] int64; positions at and beyond `lengths` carry no meaning.
        lengths: [B] int64, generated tokens including the end token where there is one.
        finished: [B] bool, whether the end token was produced; a sequence cut at the length
            limit is a legal outcome of its own.
    """

    tokens: Tensor
    lengths: Tensor
    finished: Tensor

    def __post_init__(self) -> None:
        b = self.tokens.shape[0] if self.tokens.ndim == 2 else -1
        if b < 0 or self.lengths.shape != (b,) or self.finished.shape != (b,):
            raise ShapeError(
                "Sequences needs tokens [B, T], lengths [B] and finished [B], got "
                f"{tuple(self.tokens.shape)}, {tuple(self.lengths.shape)}, "
                f"{tuple(self.finished.shape)}"
            )

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def mask(self) -> Tensor:
        """[B, T] bool, True on generated tokens."""
        return torch.arange(self.tokens.shape[1]) < self.lengths[:, None]

    def take(self, index: Tensor) -> Sequences:
        """The sequences at `index` (integers or a mask), trimmed to the longest of them."""
        lengths = self.lengths[index]
        width = int(lengths.max()) if len(lengths) else 0
        return Sequences(self.tokens[index, :width], lengths, self.finished[index])

    @classmethod
    def join(cls, parts: Sequence[Sequences]) -> Sequences:
        """All parts one after another, padded to the longest; no parts give no sequences."""
        if not parts:
            return cls(torch.zeros(0, 0).long(), torch.zeros(0).long(), torch.zeros(0).bool())
        width = max((p.tokens.shape[1] for p in parts), default=0)
        tokens = [torch.nn.functional.pad(p.tokens, (0, width - p.tokens.shape[1])) for p in parts]
        return cls(
            torch.cat(tokens),
            torch.cat([p.lengths for p in parts]),
            torch.cat([p.finished for p in parts]),
        )

    @classmethod
    def of_texts(cls, rows: Sequence[Sequence[int]], *, end: int, max_new: int) -> Sequences:
        """Id lists without their end token as finished sequences, cut at max_new tokens."""
        ended = [[*row, end][:max_new] for row in rows]
        lengths = torch.tensor([len(row) for row in ended], dtype=torch.long)
        finished = torch.tensor([len(row) < max_new for row in rows], dtype=torch.bool)
        width = max(map(len, ended), default=0)
        tokens = torch.tensor([row + [end] * (width - len(row)) for row in ended])
        return cls(tokens.long().view(len(ended), width), lengths, finished)

    def after(self, prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
        """What a network reads to score these sequences after their prompts, padded on the right.

        Args:
            prompts: B id lists of at least one id each, start token included.
            pad: any id; padding is told by the mask alone.

        Returns:
            ids [B, t] without each sequence's last token, and the mask [B, t] of the positions
            that predict a token of the sequence, in the order of `tokens[mask()]`.
        """
        rows = [[*p, *t[:-1]] for p, t in zip(prompts, self.lists(), strict=True)]
        width = max(map(len, rows), default=0)
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows]).view(-1, width)
        first = torch.tensor([len(p) - 1 for p in prompts], dtype=torch.long)[:, None]
        position = torch.arange(width)
        return ids, (position >= first) & (position < first + self.lengths[:, None])

    def lists(self, *, keep_end: bool = True) -> list[list[int]]:
        """Token-id lists, with or without the end token."""
        cut = self.lengths if keep_end else self.lengths - self.finished.long()
        return [row[:n] for row, n in zip(self.tokens.tolist(), cut.tolist(), strict=True)]


class Texts(list[str]):
    """The texts of sequences, which remember their token ids.

    Two sequences can spell one text, so evidence that reads tokens must not encode it again.

    Args:
        texts: B texts.
        sequences: the B sequences they spell.
        tokenizer: what the ids belong to.
    """

    def __init__(self, texts: Sequence[str], sequences: Sequences, tokenizer: object) -> None:
        super().__init__(texts)
        self.sequences = sequences
        self.tokenizer = tokenizer
