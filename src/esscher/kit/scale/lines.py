"""A long-lived program that answers every line with a line."""

from __future__ import annotations

import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Literal, NamedTuple

from esscher.errors import ConfigError
from esscher.kit.scale.worker import GRACE

__all__ = ["Answers", "LineProgram", "arguments_of"]

CHUNK = 65536
KEPT = 2000
"""Characters of standard error that are kept for messages."""
LOOK_SECONDS = 1.0
"""Between looks whether a silent program is still there, as what it started may hold its pipes."""
SETTLE_SECONDS = 0.1
"""After its first answers a program is given so long to show that it says more than it should."""


class Answers(NamedTuple):
    """What came back.

    Attributes:
        lines: one per line that was sent, in order; fewer if there is a fault.
        fault: "ended" if the program did, "silent" if it let the time pass, "talkative" if it said
            more than one line per line.
    """

    lines: list[str]
    fault: Literal["", "ended", "silent", "talkative"] = ""


def arguments_of(command: str) -> list[str]:
    """The words of a command, as a shell would split them; no shell is involved.

    Raises:
        ConfigError: if the command is empty, has an open quote, or there is no such program.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"the command {command!r} cannot be read: {error}") from error
    if not words or shutil.which(words[0]) is None:
        raise ConfigError(
            f"the command {command!r} cannot be started: there is no program "
            f"{words[0] if words else ''!r} in PATH; give its full path, and `bash -c '…'` where "
            "you need a shell"
        )
    return words


class LineProgram:
    """A running program and its three pipes, ended when nobody refers to it any more.

    It leads a process group of its own, so that ending it ends what it started.

    Args:
        arguments: program and its arguments.

    Raises:
        ConfigError: if it cannot be started.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        # A pipe makes Python programs hold back what they print, for ever if they then wait.
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        try:
            self._process = subprocess.Popen(
                arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=env, process_group=0
            )
        except OSError as error:
            raise ConfigError(f"{shlex.join(arguments)} cannot be started: {error}") from error
        self._stdin, self._stdout, self._stderr = _pipes(self._process)
        self._buffer = b""
        self._errors = b""
        self._settled = False
        self.close = weakref.finalize(self, _end, self._process)

    @property
    def standard_error(self) -> str:
        """The last it wrote to standard error."""
        self._read(self._stderr)
        return self._errors.decode("utf-8", "replace").strip()

    @property
    def end(self) -> str:
        """How it ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        code = self._process.returncode
        if code is None:
            return "closed its standard output"
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def ask(self, lines: Sequence[str], timeout: float | None) -> Answers:
        """Send lines and read as many; the program is of no use after a fault.

        Args:
            lines: without line ends.
            timeout: seconds without an answer after which it counts as silent; None for no limit.
        """
        self._read(self._stdout)
        if self._buffer:
            return Answers([], "talkative")
        found = self._exchange("".join(f"{line}\n" for line in lines).encode(), len(lines), timeout)
        if not found.fault and not self._settled:
            self._settled = True
            _wait_readable(self._stdout, SETTLE_SECONDS)
            self._read(self._stdout)
        return found._replace(fault="talkative") if self._buffer and not found.fault else found

    def _exchange(self, text: bytes, n: int, timeout: float | None) -> Answers:
        answers: list[str] = []
        left = memoryview(text)
        limit = None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdin, selectors.EVENT_WRITE)
            for stream in (self._stdout, self._stderr):
                selector.register(stream, selectors.EVENT_READ)
            while len(answers) < n:
                here = self._process.poll() is None
                events = selector.select(_patience(limit))
                for key, _ in events:
                    if key.fileobj is self._stdin:
                        left = self._write(left)
                        still = bool(left)
                    else:
                        still = self._read(key.fileobj)  # type: ignore[arg-type]
                    if not still:
                        selector.unregister(key.fileobj)
                new = self._answers(n - len(answers))
                answers += new
                if new and timeout is not None:
                    limit = time.monotonic() + timeout
                gone = self._stdout not in selector.get_map() or not (here or events)
                if gone and len(answers) < n:
                    return Answers(answers, "ended")
                if limit is not None and time.monotonic() >= limit and len(answers) < n:
                    return Answers(answers, "silent")
        return Answers(answers)

    def _write(self, left: memoryview) -> memoryview:
        """What is left to send; nothing once the program reads no more."""
        try:
            return left[os.write(self._stdin.fileno(), left[:CHUNK]) :]
        except BlockingIOError:
            return left
        except BrokenPipeError:
            return left[:0]

    def _read(self, stream: IO[bytes]) -> bool:
        """Take in what is there; False at the end of the stream."""
        try:
            data = os.read(stream.fileno(), CHUNK)
        except BlockingIOError:
            return True
        if stream is self._stdout:
            self._buffer += data
        else:
            self._errors = (self._errors + data)[-KEPT:]
        return bool(data)

    def _answers(self, wanted: int) -> list[str]:
        """Complete lines from the buffer."""
        *lines, rest = self._buffer.split(b"\n", wanted)
        self._buffer = rest
        return [line.decode("utf-8", "replace") for line in lines]


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    assert stdin is not None
    assert stdout is not None
    assert stderr is not None
    for stream in (stdin, stdout, stderr):
        os.set_blocking(stream.fileno(), False)
    return stdin, stdout, stderr


def _patience(limit: float | None) -> float:
    return LOOK_SECONDS if limit is None else min(LOOK_SECONDS, max(0.0, limit - time.monotonic()))


def _wait_readable(stream: IO[bytes], seconds: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        selector.select(seconds)


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in _pipes_of(process):
        with suppress(OSError):
            stream.close()
    _signal(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    _signal(process, signal.SIGKILL)
    process.wait()


def _pipes_of(process: subprocess.Popen[bytes]) -> list[IO[bytes]]:
    return [s for s in (process.stdin, process.stdout, process.stderr) if s is not None]


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
