"""Signs of life of a running process, and a clean stop when it is asked to end."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

__all__ = ["STALE_AFTER", "Heartbeat", "is_alive", "terminate_as_interrupt"]

STALE_AFTER = 60.0


class Heartbeat:
    """Keeps a file fresh from a background thread while work goes on.

    Args:
        path: the file; it names the process and is removed by `stop`.
        interval: seconds between beats, well below `STALE_AFTER`.
    """

    def __init__(self, path: Path, interval: float = 10.0) -> None:
        self.path = path
        self.interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Write the file and begin to beat."""
        owner = {"host": platform.node(), "pid": os.getpid()}
        self.path.write_text(json.dumps(owner) + "\n", encoding="utf-8")
        self._thread.start()

    def stop(self) -> None:
        """End the thread and remove the file."""
        self._ended.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(self.interval):
            with contextlib.suppress(OSError):
                os.utime(self.path)


def is_alive(path: Path) -> bool:
    """Whether the process that beats in this file is still there.

    On the same host the process is looked for; elsewhere the file must be younger than
    `STALE_AFTER` seconds.
    """
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        age = time.time() - path.stat().st_mtime
    except (OSError, ValueError):
        return False
    if owner.get("host") == platform.node():
        try:
            os.kill(int(owner["pid"]), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
    return age < STALE_AFTER


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Inside, SIGTERM raises KeyboardInterrupt, so that a run ends as cleanly as by Ctrl-C.

    The previous handler is put back. Outside the main thread, where Python allows no handlers,
    nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
