"""What a worker does: receive a function and batches, answer with results or errors.

Nothing heavy is imported here, so a worker loads what its function needs and no more.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Literal, NamedTuple

from esscher.errors import WorkerError

__all__ = ["GRACE", "Applied", "Event", "answer", "decoded", "encoded", "load", "work"]

GRACE = 1.0
"""Seconds a process has to end by itself before it is killed."""


class Event(NamedTuple):
    """What a worker has to say.

    Attributes:
        kind: "began" once the function is there and the batch about to start, then "done" or
            "raised"; "died" where there is no worker any more.
        value: the result, the exception, or how the worker died.
        trace: the traceback of an exception, as text.
    """

    kind: Literal["began", "done", "raised", "died"]
    value: Any = None
    trace: str = ""


class Applied:
    """A function of any arguments as a function of one batch: (positional, named).

    It is here so that a worker can unpickle it without loading what its sender has loaded.

    Args:
        function: what is called.
        name: how messages call it.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function = function
        self.__name__ = name

    def __call__(self, batch: tuple[Sequence[Any], Mapping[str, Any]]) -> Any:
        """function(*positional, **named)."""
        positional, named = batch
        return self.function(*positional, **named)


def encoded(event: Event) -> bytes:
    """The event as bytes."""
    return pickle.dumps(tuple(event), pickle.HIGHEST_PROTOCOL)


def decoded(message: bytes) -> Event:
    """The event those bytes hold."""
    return Event(*pickle.loads(message))


def load(function: bytes) -> tuple[Callable[[Any], Any] | None, bytes]:
    """The function in a pickle and "began", or None and what was raised instead, by whoever."""
    try:
        return pickle.loads(function), encoded(Event("began"))
    except Exception as error:
        return None, encoded(_raised(error))


def answer(function: Callable[[Any], Any], batch: bytes) -> bytes:
    """The event "done" with function(batch), or "raised" with what came instead."""
    try:
        return encoded(Event("done", function(pickle.loads(batch))))
    except Exception as error:
        return encoded(_raised(error))


def _raised(error: Exception) -> Event:
    return Event("raised", _portable(error), traceback.format_exc().rstrip())


def _portable(error: Exception) -> Exception:
    """The error itself where it survives pickling, else one that says the same."""
    with suppress(Exception):
        again = pickle.loads(pickle.dumps(error))
        if type(again) is type(error) and str(again) == str(error):
            return error
    return WorkerError(f"{type(error).__name__}: {error}")


def work(pipe: Connection) -> None:
    """Answer every (function | None, batch) that comes through the pipe until it is closed.

    The process leads a group of its own, so that Ctrl-C in a terminal leaves it to its parent, and
    ends with its parent, however that one ends.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_follow_parent, name="follow-parent", daemon=True).start()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    function: Callable[[Any], Any] | None = None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            new, batch = pickle.loads(pipe.recv_bytes())
            began = encoded(Event("began"))
            if new is not None:
                function = None  # what the last one holds is let go first
                function, began = load(new)
                _one_torch_thread()
            pipe.send_bytes(began)
            if function is not None:
                pipe.send_bytes(answer(function, batch))
    # From here the process ends by itself, and is not to be torn out of that.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _follow_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os.killpg(0, signal.SIGKILL)


def _one_torch_thread() -> None:
    # The environment comes too late where the main module had imported torch already.
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
