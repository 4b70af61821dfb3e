"""One way to run a function over batches, wherever that happens: `open_pool("processes:4")`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, Self, TypeVar

from esscher.errors import ConfigError
from esscher.kit.scale.actors import RayCrew
from esscher.kit.scale.processes import ProcessCrew
from esscher.kit.scale.schedule import RETRIES, WorkerPool, check_timeout, name_of, noted

__all__ = ["Pool", "SerialPool", "check_scale", "open_pool"]

T = TypeVar("T")
R = TypeVar("R")


class Pool(Protocol):
    """Runs a function over batches. One call of `map` at a time."""

    @property
    def workers(self) -> int:
        """How many batches can run at once."""
        ...

    def map(
        self,
        function: Callable[[T], R],
        batches: Iterable[T],
        *,
        timeout: float | None = None,
    ) -> list[R]:
        """function(batch) of every batch, in their order.

        What the function raises arrives as itself, with a note that names the batch; the other
        batches are then given up. A batch whose worker died is run again on a fresh one, so the
        function should be one that can be called twice.

        Args:
            function: takes a batch; picklable, unless the pool is serial.
            batches: what it is called with.
            timeout: seconds that one call may take, > 0; None for no limit.

        Raises:
            ConfigError: if the function cannot be sent, or the timeout cannot be kept.
            WorkerError: naming a batch whose worker died too often.
            WorkerTimeoutError: naming function, batch and timeout.
        """
        ...

    def close(self) -> None:
        """Stop the workers; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *reason: object) -> None: ...


class SerialPool:
    """A `Pool` without workers: every batch in turn, in this process."""

    workers = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def map(
        self,
        function: Callable[[T], R],
        batches: Iterable[T],
        *,
        timeout: float | None = None,
    ) -> list[R]:
        """See `Pool.map`.

        Raises:
            ConfigError: if there is a timeout, which no process can keep for itself.
        """
        check_timeout(timeout)
        if timeout is not None:
            raise ConfigError(
                f"a serial pool cannot keep a timeout, got {timeout:g} s: nothing could stop the "
                "call; take 'processes:1'"
            )
        todo = list(batches)
        results = []
        for i, batch in enumerate(todo):
            try:
                results.append(function(batch))
            except Exception as error:
                noted(error, f"{name_of(function)} on batch {i} of {len(todo)}")
                raise
        return results

    def close(self) -> None:
        """Nothing to stop."""


def open_pool(spec: str, *, retries: int = RETRIES) -> Pool:
    """The pool a specification stands for, as a context manager.

    Args:
        spec: `serial` (this process), `processes:N` (N processes of one thread each), `ray:auto`
            (the running Ray cluster, or one on all cores here), `ray:N` (a local cluster of N
            cores) or `ray:ADDRESS`.
        retries: how often a batch is run again after its worker died, >= 0.

    Raises:
        ConfigError: if the specification is none of these, or retries is negative.
        MissingExtra: if it asks for Ray, which is not installed.
    """
    if retries < 0:
        raise ConfigError(f"open_pool needs retries >= 0, got {retries}")
    check_scale(spec)
    kind, _, rest = spec.partition(":")
    if kind == "serial":
        return SerialPool()
    if kind == "processes":
        return WorkerPool(ProcessCrew(), int(rest), retries)
    crew = RayCrew(rest)
    return WorkerPool(crew, crew.workers, retries)


def check_scale(spec: str) -> None:
    """Refuse what `open_pool` cannot read, without opening anything.

    Raises:
        ConfigError: saying what it can.
    """
    kind, _, rest = spec.partition(":")
    several = kind == "processes" and rest.isdecimal() and int(rest) >= 1
    cluster = kind == "ray" and rest not in ("", "0")
    if spec != "serial" and not several and not cluster:
        raise ConfigError(
            "expected serial, processes:N with N >= 1, ray:auto, ray:N or ray:ADDRESS, got "
            f"{spec!r}"
        )
