"""Workers as actors of a Ray cluster, one core each."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from esscher.errors import ConfigError
from esscher.kit.require import require
from esscher.kit.scale.worker import Event, answer, decoded, encoded, load

__all__ = ["Actor", "RayCrew", "RayWorker"]


class Actor:
    """What lives on the cluster: a function and its answers."""

    def __init__(self) -> None:
        self.function: Callable[[Any], Any] | None = None

    def load(self, function: bytes | None) -> bytes:
        """Take a function, None for the one that is there; the event that says how it went."""
        if function is None:
            return encoded(Event("began"))
        self.function = None
        self.function, event = load(function)
        return event

    def run(self, batch: bytes) -> bytes | None:
        """The event of function(batch), None where no function could be loaded."""
        return None if self.function is None else answer(self.function, batch)


class RayWorker:
    """An actor seen from here: what it was asked, in order."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self.actor = ray.remote(num_cpus=1, max_restarts=0)(Actor).remote()
        self._asked: deque[Any] = deque()
        self._wanted = self._loaded = b""

    @property
    def awaited(self) -> Any:
        """The reference the next event comes through."""
        return self._asked[0]

    def submit(self, function: bytes, batch: bytes) -> None:
        """Ask for a batch, after the function unless it is there already."""
        self._wanted = function
        new = None if function == self._loaded else function
        self._asked = deque([self.actor.load.remote(new), self.actor.run.remote(batch)])

    def receive(self) -> Event:
        """The next event; "died" if the actor or its machine did."""
        try:
            event = decoded(self._ray.get(self._asked.popleft()))
        except self._ray.exceptions.RayError as error:
            return Event("died", f"was lost ({type(error).__name__})")
        if event.kind == "began":
            self._loaded = self._wanted
        return event


class RayCrew:
    """Makes and stops actors, on a cluster that is joined or started here.

    Args:
        where: `auto` for the running cluster, or one on all cores here; a number of cores for a
            local cluster; else the address of one.

    Attributes:
        workers: cores of the cluster, or as many of them as were asked for, at least 1.

    Raises:
        MissingExtra: if Ray is not installed.
        ConfigError: if there is no cluster at the address.
    """

    def __init__(self, where: str) -> None:
        self._ray: Any = require("ray", extra="ray")
        self._started = not self._ray.is_initialized()
        if self._started:
            self._start(where)
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        # More actors than cores would wait for a core for ever.
        self.workers = max(1, min(int(where), cores) if where.isdecimal() else cores)

    def _start(self, where: str) -> None:
        settings: dict[str, Any] = {"address": where}
        if where == "auto":
            settings = {}
        elif where.isdecimal():
            settings = {"address": "local", "num_cpus": int(where), "include_dashboard": False}
        try:
            self._ray.init(logging_level=logging.WARNING, **settings)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"ray:{where} leads to no cluster: {error}") from error

    def encode(self, value: object, what: str) -> bytes:
        """The value pickled by Ray, which also takes functions defined on the spot.

        Raises:
            ConfigError: if even Ray cannot pickle it.
        """
        try:
            return bytes(self._ray.cloudpickle.dumps(value))
        except Exception as error:
            raise ConfigError(f"{what} cannot be sent to Ray: {error}") from error

    def hire(self) -> RayWorker:
        """A fresh actor."""
        return RayWorker(self._ray)

    def wait(self, workers: Sequence[RayWorker], timeout: float | None) -> list[RayWorker]:
        """Those whose next event is there."""
        awaited = {worker.awaited: worker for worker in workers}
        ready, _ = self._ray.wait(list(awaited), num_returns=1, timeout=timeout)
        return [awaited[reference] for reference in ready]

    def dismiss(self, workers: Sequence[RayWorker]) -> None:
        """Kill the actors."""
        for worker in workers:
            with suppress(Exception):
                self._ray.kill(worker.actor)

    def close(self) -> None:
        """Leave the cluster, if it was joined or started here."""
        if self._started:
            with suppress(Exception):
                self._ray.shutdown()
