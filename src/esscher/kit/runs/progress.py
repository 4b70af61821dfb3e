"""A progress line that shows the numbers that matter."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from esscher.kit.runs.text import format_duration, format_value

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["Progress"]


class Progress:
    """Shows how far work is, its rate, its end, and fields such as ESS or log Z ± se.

    On a terminal it is one line, redrawn at most ten times a second; elsewhere a plain line every
    few seconds. `NO_COLOR` is honoured. A context manager; leaving it shows the last state.

    Args:
        total: units of work, > 0, or None where unknown.
        label: what is being done.
        start: units done before, when resumed; they do not count for the rate.
        stream: where to write; standard error by default.
        quiet: write nothing.
        interval: seconds between plain lines.
        clock: seconds, non-decreasing.
    """

    def __init__(
        self,
        total: int | None,
        label: str,
        *,
        start: int = 0,
        stream: TextIO | None = None,
        quiet: bool = False,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.label = label
        self.done = start
        self._first = start
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._terminal = not quiet and self._stream.isatty()
        self._interval = 0.1 if self._terminal else interval
        self._clock = clock
        self._began = self._shown = clock()
        self._fields: dict[str, str] = {}
        self._live: Live | None = None
        self._fresh = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def update(self, n: int = 1, **fields: object) -> None:
        """Count n more units and replace the fields given: numbers, estimates, text or None."""
        self.done += n
        named = {name.replace("_", " "): value for name, value in fields.items()}
        self._fields |= {name: format_value(v, with_n=False) for name, v in named.items()}
        self._fresh = True
        now = self._clock()
        if now - self._shown >= self._interval:
            self._show(now)

    def forget(self) -> None:
        """Drop all fields, where what they describe has ended."""
        self._fields = {}

    def close(self) -> None:
        """Show the last state and leave the line."""
        if self._fresh:
            self._show(self._clock())
        if self._live is not None:
            self._live.stop()
            self._live = None

    def line(self) -> str:
        """The state as one line of text."""
        return "  ".join([*self._head(self._clock()), *self._tail()])

    def _head(self, now: float) -> list[str]:
        parts = [self.label, f"{self.done}" if self.total is None else f"{self.done}/{self.total}"]
        elapsed, fresh = now - self._began, self.done - self._first
        if elapsed > 0 and fresh > 0:
            rate = fresh / elapsed
            parts.append(f"{rate:.3g}/s" if rate >= 1 else f"{1 / rate:.3g} s each")
            if self.total is not None and self.done < self.total:
                parts.append(f"ETA {format_duration((self.total - self.done) / rate)}")
            else:
                parts.append(f"in {format_duration(elapsed)}")
        return parts

    def _tail(self) -> list[str]:
        return [f"{name} {value}" for name, value in self._fields.items()]

    def _show(self, now: float) -> None:
        self._shown, self._fresh = now, False
        if self._quiet:
            return
        if self._terminal:
            self._redraw(now)
        else:
            print("  ".join([*self._head(now), *self._tail()]), file=self._stream, flush=True)

    def _redraw(self, now: float) -> None:
        from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
        from rich.live import Live  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        if self._live is None:
            console = Console(file=self._stream)
            self._live = Live(console=console, auto_refresh=False, redirect_stdout=False)
            self._live.start()
        head = self._head(now)
        text = Text.assemble(
            (head[0], "bold"), "  ", ("  ".join(head[1:]), "cyan"), "  ", "  ".join(self._tail())
        )
        text.truncate(self._live.console.width, overflow="ellipsis")
        self._live.update(text, refresh=True)
