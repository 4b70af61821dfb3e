"""One self-contained HTML file that says what a run did and found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from esscher.errors import DataError
from esscher.kit.runs.figures import to_svg
from esscher.kit.runs.files import write_atomic
from esscher.kit.runs.style import CSS
from esscher.kit.runs.text import NOT_AVAILABLE, estimate_parts, format_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Card", "Missing", "Report", "Verdict"]

_WORDS = {"holds": "✓ holds", "fails": "✗ fails", "open": "? open"}


@dataclass(frozen=True)
class Missing:
    """A number there is none of, and why; shown as "not available: reason"."""

    reason: str


@dataclass(frozen=True)
class Card:
    """A headline number.

    Attributes:
        label: what it is, with its unit.
        value: an estimate, number, text, None or Missing.
        note: one short line below it.
    """

    label: str
    value: object
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim and whether the numbers bear it out.

    Attributes:
        claim: the sentence that is judged.
        outcome: "holds", "fails", or "open" where the numbers do not decide.
        detail: the numbers behind it.
        word: what the badge says instead of the outcome, such as "collapsed".
    """

    claim: str
    outcome: Literal["holds", "fails", "open"]
    detail: str = ""
    word: str = ""


class Report:
    """Sections of text, tables and figures, written as one HTML file without outside resources.

    All text is escaped. Every method returns the report itself. Equal content gives equal bytes.

    Args:
        title: the headline.
        subtitle: one line below it.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._parts: list[str] = []

    def section(self, title: str) -> Report:
        """Begin a section."""
        return self._add(f"<h2>{escape(title)}</h2>")

    def paragraph(self, text: str) -> Report:
        """Add a paragraph."""
        return self._add(f"<p>{escape(text)}</p>")

    def cards(self, cards: Sequence[Card]) -> Report:
        """Add a row of headline numbers."""
        return self._add(f'<div class="cards">{"".join(map(_card, cards))}</div>')

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = ""
    ) -> Report:
        """Add a table; a wide one scrolls in its own frame.

        Args:
            columns: the headings.
            rows: cells that are estimates, numbers, text, None or Missing.
            caption: what the reader should see in it.

        Raises:
            DataError: if a row has not one cell per column.
        """
        for number, row in enumerate(rows):
            if len(row) != len(columns):
                raise DataError(f"row {number} has {len(row)} cells for {len(columns)} columns")
        cells = [[row[i] for row in rows] for i in range(len(columns))]
        kinds = [bool(column) and all(map(_is_number, column)) for column in cells]
        head = _row("th", [escape(column) for column in columns], kinds)
        body = "".join(_row("td", [_show(cell) for cell in row], kinds) for row in rows)
        table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
        return self._figure(f'<div class="scroll" tabindex="0">{table}</div>', caption)

    def figure(self, figure: Figure | str, caption: str) -> Report:
        """Add a figure on a white card.

        Args:
            figure: a matplotlib figure, or an `<svg>` element as text.
            caption: what the reader should see in it; also its text for screen readers.

        Raises:
            DataError: if text is given that is not an `<svg>` element.
        """
        svg = figure if isinstance(figure, str) else to_svg(figure)
        if not svg.startswith("<svg"):
            raise DataError(f"a figure is a matplotlib figure or <svg> text, got {svg[:40]!r}")
        svg = svg.replace("<svg", f'<svg aria-label="{escape(caption)}"', 1)
        return self._figure(f'<div class="plot">{svg}</div>', caption)

    def samples_side_by_side(self, columns: Mapping[str, Sequence[str]]) -> Report:
        """Add texts in columns, such as the same prompts before and after."""
        shown = "".join(
            f'<div class="column"><h3>{escape(name)}</h3>'
            + "".join(f"<pre>{escape(text) or ' '}</pre>" for text in texts)
            + "</div>"
            for name, texts in columns.items()
        )
        return self._add(f'<div class="columns">{shown}</div>')

    def verdicts(self, verdicts: Sequence[Verdict]) -> Report:
        """Add a table of claims, each with a badge that says in words whether it holds."""
        rows = "".join(
            f'<tr><td><span class="badge {v.outcome}">{escape(_badge(v))}</span></td>'
            f'<td>{escape(v.claim)}</td><td class="detail">{escape(v.detail)}</td></tr>'
            for v in verdicts
        )
        head = "<thead><tr><th>verdict</th><th>claim</th><th>numbers</th></tr></thead>"
        table = f"<table>{head}<tbody>{rows}</tbody></table>"
        return self._add(f'<figure><div class="scroll" tabindex="0">{table}</div></figure>')

    def details(self, summary: str, text: str) -> Report:
        """Add text that is folded away, such as the configuration."""
        body = f"<summary>{escape(summary)}</summary><pre>{escape(text)}</pre>"
        return self._add(f"<details>{body}</details>")

    def html(self) -> str:
        """The whole document."""
        title, subtitle = escape(self.title), escape(self.subtitle)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>\n{CSS}\n</style>\n</head>\n<body>\n<main>\n"
            f'<header><h1>{title}</h1><p class="subtitle">{subtitle}</p></header>\n'
            + "\n".join(self._parts)
            + "\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: Path) -> Path:
        """Write the document atomically and return its path."""
        write_atomic(path, self.html())
        return path

    def _add(self, part: str) -> Report:
        self._parts.append(part)
        return self

    def _figure(self, content: str, caption: str) -> Report:
        note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        return self._add(f"<figure>{content}{note}</figure>")


def _badge(verdict: Verdict) -> str:
    sign, _, word = _WORDS[verdict.outcome].partition(" ")
    return f"{sign} {verdict.word or word}"


def _show(value: object, *, with_n: bool = True) -> str:
    text = format_value(value, with_n=with_n)
    if isinstance(value, Missing):
        text = f"{NOT_AVAILABLE}: {value.reason}"
    if text.startswith(NOT_AVAILABLE):
        return f'<span class="missing">{escape(text)}</span>'
    return escape(text)


def _is_number(value: object) -> bool:
    plain = isinstance(value, (int, float, Missing)) and not isinstance(value, bool)
    return value is None or plain or estimate_parts(value) is not None


def _row(tag: str, cells: Sequence[str], numeric: Sequence[bool]) -> str:
    kinds = ["number" if number else "words" for number in numeric]
    inner = (f'<{tag} class="{k}">{cell}</{tag}>' for cell, k in zip(cells, kinds, strict=True))
    return f"<tr>{''.join(inner)}</tr>"


def _card(card: Card) -> str:
    n = (estimate_parts(card.value) or {}).get("n")
    notes = " · ".join(part for part in ("" if n is None else f"n = {n:,}", card.note) if part)
    return (
        f'<div class="card"><div class="label">{escape(card.label)}</div>'
        f'<div class="value">{_show(card.value, with_n=False)}</div>'
        f'<div class="note">{escape(notes)}</div></div>'
    )
