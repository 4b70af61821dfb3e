"""How a command may speak: what the command line was told about its output."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from esscher.kit.runs.progress import Progress

__all__ = ["Output"]


@dataclass(frozen=True)
class Output:
    """The standard options of a command, for those that show progress or notes.

    Attributes:
        json: standard output carries one JSON object and nothing else.
        quiet: neither progress nor notes.
        verbose: notes that help to follow what happens.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def progress(self, total: int | None, label: str, *, start: int = 0) -> Progress:
        """A progress line on standard error, silent if quiet."""
        return Progress(total, label, start=start, quiet=self.quiet)

    def say(self, text: str) -> None:
        """A note on standard error, unless quiet."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        """A note on standard error, if verbose."""
        if self.verbose:
            self.say(text)
