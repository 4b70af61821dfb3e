"""Evidence about unfinished Python texts: brackets and strings, read from left to right."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["closes_only_open_brackets"]

PAIRS = {")": "(", "]": "[", "}": "{"}


def closes_only_open_brackets(texts: Sequence[str]) -> list[bool]:
    """Whether no bracket is closed that is not open, and no short string runs over its line.

    Once false it stays false however a text goes on, as a `PrefixCondition` has to. Brackets in
    strings and comments do not count.
    """
    return [_sound(text) for text in texts]


def _sound(text: str) -> bool:
    opened: list[str] = []
    i = 0
    while i < len(text):
        c = text[i]
        if c in "'\"":
            end = _after_string(text, i)
            if end is None:
                return False
            i = end
            continue
        if c == "#":
            line = text.find("\n", i)
            if line < 0:
                return True
            i = line
        elif c in PAIRS.values():
            opened.append(c)
        elif c in PAIRS and (not opened or opened.pop() != PAIRS[c]):
            return False
        i += 1
    return True


def _after_string(text: str, start: int) -> int | None:
    """Where the string that starts here ends; the text's end if it is open, None if it cannot."""
    quote = text[start]
    mark = quote * 3 if text.startswith(quote * 3, start) else quote
    i = start + len(mark)
    while i < len(text):
        if text[i] == "\\":
            i += 2
        elif text.startswith(mark, i):
            return i + len(mark)
        elif text[i] == "\n" and len(mark) == 1:
            return None
        else:
            i += 1
    return len(text)
