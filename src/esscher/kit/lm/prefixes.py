"""A free number per prefix and next token of an enumerable language: its network and its twist."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from esscher.kit.lm.twist import TwistDecoder, log_psi, of_log_psi

__all__ = ["PrefixDecoder", "PrefixTable", "TabularTwist"]


class PrefixTable(nn.Module):
    """A free number per prefix and next token, with the calls a transformer answers.

    Prefixes of fewer than `max_len` letters are numbered by length, then by letters; ids are
    0 … alphabet-1 for letters, and `alphabet` both starts and ends a string.

    Args:
        logits: [P, alphabet + 1], one row per prefix.
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.alphabet = logits.shape[1] - 1

    def states_at(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(ids [b, t] after the start id, mask [b, t]) -> prefix numbers [N], row by row."""
        row = torch.zeros_like(ids)
        for t in range(1, ids.shape[1]):
            row[:, t] = self.child(row[:, t - 1], ids[:, t])
        return row[mask]

    def child(self, row: Tensor, letter: Tensor) -> Tensor:
        """Number of the prefix that continues prefix `row` by a letter, in a tree laid out so."""
        return self.alphabet * row + letter + 1

    def prefill(self, prompts: Tensor, owner: Tensor, max_new: int) -> tuple[Tensor, PrefixDecoder]:
        """Read the start id and the letters after it; see `generate.Decodable`."""
        del max_new
        last = torch.zeros_like(prompts, dtype=torch.bool)
        last[:, -1] = True
        decoder = PrefixDecoder(self, self.states_at(prompts, last)[owner])
        return self.logits[decoder.row], decoder


class PrefixDecoder:
    """Strings that grow by a letter at a time."""

    def __init__(self, table: PrefixTable, row: Tensor) -> None:
        self.table = table
        self.row = row

    def step(self, ids: Tensor) -> Tensor:
        """Append letters [B]; values [B, alphabet + 1] of what follows."""
        # A string that has ended is decoded along with the others; what follows it is not read.
        last = len(self.table.logits) - 1
        self.row = self.table.child(self.row, ids).clamp(max=last)
        return self.table.logits[self.row]

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) the given rows."""
        self.row = self.row[rows]


class TabularTwist(nn.Module):
    """The twist of a tabular law, a free number per prefix and next token; see `Twist`.

    Args:
        table: the law's network, for its shape.
        bounded: whether ψ is a probability; the numbers are then log-odds.
    """

    def __init__(self, table: PrefixTable, *, bounded: bool = True) -> None:
        super().__init__()
        self.table = PrefixTable(torch.zeros_like(table.logits))
        self.bounded = bounded

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(ids [b, t], mask [b, t]) -> prefix numbers [N] at the masked positions, row by row."""
        return self.table.states_at(ids, mask)

    def values(self, states: Tensor) -> Tensor:
        """Prefix numbers [N] -> log-odds, or log ψ where unbounded, [N, alphabet + 1]."""
        return self.table.logits[states]

    def values_of(self, states: Tensor, chosen: Tensor) -> Tensor:
        """Prefix numbers [N] -> `values` [N] of the chosen next tokens."""
        return self.table.logits[states, chosen]

    def fill(self, worth: float) -> None:
        """Give every prefix log ψ = `worth`, nats."""
        nn.init.constant_(self.table.logits, of_log_psi(worth, bounded=self.bounded))

    def prefill(self, prompts: Tensor, owner: Tensor, max_new: int) -> tuple[Tensor, TwistDecoder]:
        """See `Twist.prefill`."""
        values, rows = self.table.prefill(prompts, owner, max_new)

        def worth(ids: Tensor) -> Tensor:
            return log_psi(rows.step(ids), bounded=self.bounded)

        return log_psi(values, bounded=self.bounded), TwistDecoder(worth, rows)
