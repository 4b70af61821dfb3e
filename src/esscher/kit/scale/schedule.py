"""Batches over workers that may raise, hang or die: who does what next, and what is done again."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.util import Finalize
from typing import Any, Generic, Protocol, Self, TypeVar

from esscher.errors import ConfigError, WorkerError, WorkerTimeoutError
from esscher.kit.scale.worker import Event

__all__ = ["RETRIES", "Crew", "Worker", "WorkerPool", "check_timeout", "name_of", "noted", "shown"]

RETRIES = 2
"""How often a batch is run again after its worker died."""

T = TypeVar("T")
R = TypeVar("R")


class Worker(Protocol):
    """One place where a function runs, one batch at a time."""

    def submit(self, function: bytes, batch: bytes) -> None:
        """Start on a batch; that the worker is dead shows in `receive`."""
        ...

    def receive(self) -> Event:
        """The next event; "died" where none will come."""
        ...


WorkerT = TypeVar("WorkerT", bound=Worker)


class Crew(Protocol[WorkerT]):
    """Where workers come from and go to."""

    def encode(self, value: object, what: str) -> bytes:
        """The value as bytes.

        Raises:
            ConfigError: naming what it is, if it cannot be sent.
        """
        ...

    def hire(self) -> WorkerT:
        """A fresh worker."""
        ...

    def wait(self, workers: Sequence[WorkerT], timeout: float | None) -> list[WorkerT]:
        """Those with an event to receive, at the latest after timeout seconds (None: for ever)."""
        ...

    def dismiss(self, workers: Sequence[WorkerT]) -> None:
        """Stop workers, whatever they are doing."""
        ...

    def close(self) -> None:
        """Give back what the crew itself holds."""
        ...


def shown(value: object, width: int = 80) -> str:
    """repr(value), cut to width characters."""
    text = repr(value)  # not the one of core, which would load torch into every script's workers
    return text if len(text) <= width else text[: width - 3] + "..."


def name_of(function: object) -> str:
    """How messages call a function."""
    return str(getattr(function, "__name__", None) or shown(function))


def noted(error: Exception, place: str, trace: str = "") -> Exception:
    """The error with a note of where it was raised."""
    error.add_note(f"raised by {place}" + (f" in a worker:\n{trace}" if trace else ""))
    return error


def check_timeout(timeout: float | None) -> None:
    """Refuse what is no number of seconds.

    Raises:
        ConfigError: if the timeout is neither None nor above 0.
    """
    if timeout is not None and not timeout > 0:
        raise ConfigError(f"a timeout must be above 0 seconds, or None for none, got {timeout}")


@dataclass(eq=False)
class _Seat(Generic[WorkerT]):
    """A worker, the batch it is at, and when that has to be done."""

    worker: WorkerT
    index: int | None = None
    deadline: float | None = None


class _Job:
    """One call of `map`: what is to do, what is done, and how often each batch was lost."""

    def __init__(self, name: str, batches: Sequence[Any], timeout: float | None) -> None:
        self.name = name
        self.batches = batches
        self.timeout = timeout
        self.todo = deque(range(len(batches)))
        self.results: dict[int, Any] = {}
        self.losses: Counter[int] = Counter()
        self.started: set[int] = set()

    def place(self, index: int) -> str:
        return f"{self.name} on batch {index} of {len(self.batches)}"

    def lose(self, index: int, how: str, retries: int) -> None:
        """Put a lost batch back in front, or give up on it."""
        self.losses[index] += 1
        self.todo.appendleft(index)
        if self.losses[index] > retries:
            cause = (
                "let the function survive that batch, or leave the batch out"
                if index in self.started
                else "it died before the function was called: a script that opens a pool needs "
                "`if __name__ == '__main__':` around what it does"
            )
            raise WorkerError(
                f"{self.place(index)}: the worker {how}, {self.losses[index]} times in all; the "
                f"batch is {shown(self.batches[index])}; {cause}"
            )

    def timed_out(self, index: int) -> WorkerTimeoutError:
        return WorkerTimeoutError(
            f"{self.place(index)} did not end within the timeout of {self.timeout:g} s and was "
            f"stopped; the batch is {shown(self.batches[index])}; raise the timeout, or make the "
            "function end"
        )


class WorkerPool(Generic[WorkerT]):
    """A `Pool` over a crew: workers are hired when needed, kept between calls, replaced if dead.

    Closed by `close`, at the end of a `with`, when nobody refers to it any more, or at exit.

    Args:
        crew: where workers come from.
        workers: at most so many, >= 1.
        retries: how often a batch is run again after its worker died, >= 0.
    """

    def __init__(self, crew: Crew[WorkerT], workers: int, retries: int) -> None:
        self.workers = workers
        self.retries = retries
        self._crew = crew
        self._seats: list[_Seat[WorkerT]] = []
        # Unlike atexit, this comes before multiprocessing waits for its children.
        self._end = Finalize(self, _close, args=(crew, self._seats), exitpriority=100)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers; a second call does nothing."""
        self._end()

    def map(
        self,
        function: Callable[[T], R],
        batches: Iterable[T],
        *,
        timeout: float | None = None,
    ) -> list[R]:
        """See `Pool.map`."""
        check_timeout(timeout)
        if not self._end.still_active():
            raise ConfigError("the pool is closed; open another")
        job = _Job(name_of(function), list(batches), timeout)
        code = self._crew.encode(function, f"the function {job.name}")
        try:
            while len(job.results) < len(job.batches):
                self._staff(job, code)
                self._follow(job)
        except BaseException:
            self._remove([seat for seat in self._seats if seat.index is not None])
            raise
        return [job.results[i] for i in range(len(job.batches))]

    def _staff(self, job: _Job, code: bytes) -> None:
        """Give every free worker a batch, hiring up to the limit."""
        idle = [seat for seat in self._seats if seat.index is None]
        while job.todo and (idle or len(self._seats) < self.workers):
            index = job.todo[0]
            batch = self._crew.encode(job.batches[index], f"batch {index} of {job.name}")
            seat = idle.pop() if idle else self._hire()
            seat.index, seat.deadline = job.todo.popleft(), None
            seat.worker.submit(code, batch)

    def _hire(self) -> _Seat[WorkerT]:
        seat = _Seat(self._crew.hire())
        self._seats.append(seat)
        return seat

    def _follow(self, job: _Job) -> None:
        """Wait for the next events, or the next deadline, and take note."""
        busy = [seat for seat in self._seats if seat.index is not None]
        deadlines = [seat.deadline for seat in busy if seat.deadline is not None]
        left = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        ready = self._crew.wait([seat.worker for seat in busy], left)
        for seat in busy:
            if seat.worker in ready:
                self._take(seat, job)
        now = time.monotonic()
        for seat in busy:
            if seat.index is not None and seat.deadline is not None and seat.deadline <= now:
                raise job.timed_out(seat.index)

    def _take(self, seat: _Seat[WorkerT], job: _Job) -> None:
        event, index = seat.worker.receive(), seat.index
        assert index is not None
        if event.kind == "began":
            job.started.add(index)
            if job.timeout is not None:
                seat.deadline = time.monotonic() + job.timeout
            return
        seat.index = seat.deadline = None
        if event.kind == "raised":
            raise noted(event.value, job.place(index), event.trace)
        if event.kind == "died":
            self._remove([seat])
            job.lose(index, event.value, self.retries)
        else:
            job.results[index] = event.value

    def _remove(self, seats: Sequence[_Seat[WorkerT]]) -> None:
        for seat in seats:
            self._seats.remove(seat)
        self._crew.dismiss([seat.worker for seat in seats])


def _close(crew: Crew[WorkerT], seats: list[_Seat[WorkerT]]) -> None:
    crew.dismiss([seat.worker for seat in seats])
    seats.clear()
    crew.close()
