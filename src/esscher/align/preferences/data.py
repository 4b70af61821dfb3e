"""Preference pairs as files have them: a prompt, the text that was preferred, and the other one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from esscher.errors import ConfigError, DataError
from esscher.kit.runs.seeds import Streams

__all__ = ["LEAST_HELD_OUT", "Preferences", "read_preferences"]

LEAST_HELD_OUT = 10
"""Fewest held-out pairs from which a loss is still worth reading."""
COLUMNS = ("prompt", "chosen", "rejected")
EXAMPLE = '{"prompt": "…", "chosen": "…", "rejected": "…"}'


@dataclass(frozen=True)
class Preferences:
    """N comparisons of two texts.

    Attributes:
        prompts: what each pair continues; None for prompt-free texts.
        chosen: the texts that were preferred.
        rejected: the others.

    Raises:
        DataError: if there is no pair, the lengths differ, or a pair's texts are equal.
    """

    prompts: tuple[str, ...] | None
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.chosen)
        lengths = {n, len(self.rejected), n if self.prompts is None else len(self.prompts)}
        if len(lengths) != 1:
            raise DataError(
                f"expected as many prompts, chosen and rejected texts, got {sorted(lengths)}"
            )
        if n == 0:
            raise DataError("there is no preference pair; at least one is needed")
        for i, texts in enumerate(zip(self.chosen, self.rejected, strict=True)):
            _check_different(*texts, f"pair {i}")

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, rows: Sequence[int]) -> Preferences:
        """The pairs at the given rows."""
        prompts = None if self.prompts is None else tuple(self.prompts[i] for i in rows)
        chosen = tuple(self.chosen[i] for i in rows)
        return Preferences(prompts, chosen, tuple(self.rejected[i] for i in rows))

    def split(self, held_out: float = 0.1, *, seed: int = 0) -> tuple[Preferences, Preferences]:
        """Pairs to train on and pairs to judge by.

        Repetitions of a comparison, whichever way it went, stay on one side: what is held out was
        never seen.

        Args:
            held_out: share that is held out, in (0, 1).
            seed: of the choice.

        Returns:
            (training pairs, held-out pairs), each in the order of the file.

        Raises:
            ConfigError: if the share is not in (0, 1).
            DataError: if all pairs are the same comparison, or fewer than 10 would be held out, or
                none would be left.
        """
        if not 0.0 < held_out < 1.0:
            raise ConfigError(f"held_out must lie in (0, 1), got {held_out}")
        groups = self._comparisons()
        if len(groups) == 1:
            raise DataError(
                f"all {len(self)} pairs are the same comparison, {self.chosen[0][:60]!r} against "
                f"{self.rejected[0][:60]!r}; nothing can be held out to judge by"
            )
        wanted = round(held_out * len(self))
        out: list[int] = []
        for g in torch.randperm(len(groups), generator=Streams(seed).torch("split")).tolist():
            if len(out) >= wanted:
                break
            out += groups[g]
        if wanted < LEAST_HELD_OUT or len(out) == len(self):
            raise DataError(
                f"held_out={held_out:g} of {len(self)} pairs ({len(groups)} different) holds out "
                f"{len(out)}; at least {LEAST_HELD_OUT} must be held out and one must remain: "
                "change held_out or add pairs"
            )
        kept = sorted(set(range(len(self))) - set(out))
        return self.take(kept), self.take(sorted(out))

    def _comparisons(self) -> list[list[int]]:
        """Rows of each comparison, in the order of their first occurrence."""
        found: dict[tuple[str, frozenset[str]], list[int]] = {}
        prompts = self.prompts or [""] * len(self)
        for i, (prompt, a, b) in enumerate(zip(prompts, self.chosen, self.rejected, strict=True)):
            found.setdefault((prompt, frozenset((a, b))), []).append(i)
        return list(found.values())


def read_preferences(path: Path | str) -> Preferences:
    """Read a JSON Lines file with columns chosen, rejected and, on every line or none, prompt.

    Texts are plain strings; other columns are ignored.

    Raises:
        DataError: naming file, line and column of what is missing, of another type, a conversation
            instead of a text, or a pair whose texts are equal; or if there is no pair.
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read preferences from {path}: {error}") from error
    # str.splitlines would also split at U+2028, which JSON allows inside a text.
    lines = [(i, line) for i, line in enumerate(content.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path} has no preference pair; expected lines such as {EXAMPLE}")
    rows = [_row(line, f"{path}:{i}") for i, line in lines]
    for (i, _), row in zip(lines, rows, strict=True):
        if (row[0] is None) != (rows[0][0] is None):
            first, other = ("no", "a") if rows[0][0] is None else ("a", "no")
            raise DataError(
                f"{path}:{i}: this line has {other} column 'prompt', but line {lines[0][0]} has "
                f"{first} one; give every pair a prompt, if need be an empty one, or none"
            )
    prompts = tuple(row[0] for row in rows if row[0] is not None)
    return Preferences(prompts or None, tuple(r[1] for r in rows), tuple(r[2] for r in rows))


def _row(line: str, where: str) -> tuple[str | None, str, str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: this line is not JSON ({error}): {line[:60]!r}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object such as {EXAMPLE}, got {line[:60]!r}")
    texts = [_text(row, column, where) for column in COLUMNS if column in row or column != "prompt"]
    chosen, rejected = texts[-2:]
    _check_different(chosen, rejected, where)
    return texts[0] if len(texts) == 3 else None, chosen, rejected


def _text(row: dict[str, Any], column: str, where: str) -> str:
    if column not in row:
        there = ", ".join(map(repr, row)) or "none"
        raise DataError(f"{where}: column {column!r} is missing; columns there: {there}")
    value = row[column]
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        raise DataError(
            f"{where}: column {column!r} is a conversation (a list of {len(value)} messages), but "
            "plain texts are expected; render prompt and answers with the chat template first"
        )
    raise DataError(f"{where}: column {column!r} must be a text, got {type(value).__name__}")


def _check_different(chosen: str, rejected: str, where: str) -> None:
    if chosen == rejected:
        raise DataError(
            f"{where}: columns 'chosen' and 'rejected' hold the same text, {chosen[:60]!r}, so the "
            "pair prefers nothing; remove it"
        )
