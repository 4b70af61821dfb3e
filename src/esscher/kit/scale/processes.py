"""Workers in processes of this machine, one thread each."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import wait

from esscher.errors import ConfigError, DataError
from esscher.kit.scale.worker import GRACE, Event, decoded, work

__all__ = ["ProcessCrew", "ProcessWorker"]


class ProcessWorker:
    """A spawned process and the pipe to it.

    A process of its own rather than one of `concurrent.futures`: there, one death breaks the pool
    and loses the batches of all others.
    """

    def __init__(self) -> None:
        # Forked copies of a process that has used torch's threads can hang: start afresh.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        # Not a daemon: daemons may not have child processes, and a reward may need some.
        self.process = context.Process(target=work, args=(theirs,), daemon=False)
        self.process.start()
        theirs.close()
        self._wanted = self._loaded = b""

    def submit(self, function: bytes, batch: bytes) -> None:
        """Send a batch, and the function unless it is there already."""
        self._wanted = function
        new = None if function == self._loaded else function
        with suppress(OSError):
            self.pipe.send_bytes(pickle.dumps((new, batch), pickle.HIGHEST_PROTOCOL))

    def receive(self) -> Event:
        """The next event; "died" at the end of the pipe."""
        try:
            message = self.pipe.recv_bytes()
        except (EOFError, OSError):
            return Event("died", self._end())
        event = decoded(message)
        if event.kind == "began":
            self._loaded = self._wanted
        return event

    def _end(self) -> str:
        self.process.join(GRACE)
        code = self.process.exitcode
        if code is None:
            return "closed its pipe"
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def terminate(self) -> None:
        """Ask the process to end."""
        self.pipe.close()
        self.process.terminate()

    def kill(self, deadline: float) -> None:
        """Wait for its end until the deadline, then kill it, and with it what it started."""
        self.process.join(max(0.0, deadline - time.monotonic()))
        pid = self.process.pid
        assert pid is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.process.close()


class ProcessCrew:
    """Makes and stops worker processes."""

    def encode(self, value: object, what: str) -> bytes:
        """The value pickled.

        Raises:
            ConfigError: if it is a function that cannot be pickled.
            DataError: if it is a batch that cannot.
        """
        try:
            return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            if callable(value):
                raise ConfigError(
                    f"{what} cannot be sent to a process: {error}; define it at the top level of a "
                    "module that can be imported, or take scale='serial'"
                ) from error
            raise DataError(
                f"{what} cannot be sent to a process: {error}; batches must be picklable"
            ) from error

    def hire(self) -> ProcessWorker:
        """A fresh process.

        Raises:
            ConfigError: inside a daemonic process, which may not have children.
        """
        if multiprocessing.current_process().daemon:
            raise ConfigError(
                "processes cannot be started from a daemonic process, such as a worker of "
                "multiprocessing.Pool; take scale='serial' there, or a pool of another kind above"
            )
        return ProcessWorker()

    def wait(self, workers: Sequence[ProcessWorker], timeout: float | None) -> list[ProcessWorker]:
        """Those whose pipe has something to read, or has ended."""
        by_pipe = {worker.pipe: worker for worker in workers}
        return [by_pipe[pipe] for pipe in wait(list(by_pipe), timeout)]  # type: ignore[index]

    def dismiss(self, workers: Sequence[ProcessWorker]) -> None:
        """End the processes, with force after `GRACE` seconds."""
        for worker in workers:
            worker.terminate()
        deadline = time.monotonic() + GRACE
        for worker in workers:
            worker.kill(deadline)

    def close(self) -> None:
        """Nothing is held beyond the processes."""
