"""A long fit seen from its run: progress lines, metrics, checkpoints, and going on from one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from esscher.errors import CheckpointError
from esscher.kit.runs.folder import Run
from esscher.kit.runs.history import resume_run
from esscher.kit.runs.output import Output

__all__ = ["Follower", "digest_of"]

SHARE = 0.05
"""Of the time, at most, that goes into checkpoints while a fit runs."""

State = Callable[[], Mapping[str, Any]]


class Follower:
    """The `Keeper` of a fit that has a run.

    A context manager around the fit. Leaving it, also by Ctrl-C, saves what is finished.

    Args:
        run: gets metrics and checkpoints; one that has a checkpoint is continued.
        output: where the progress line goes.
        label: what is being done.
        data: digest of what is fitted, see `digest_of`.

    Raises:
        CheckpointError: if the run's checkpoint is of other data.
    """

    def __init__(self, run: Run, output: Output, label: str, *, data: str) -> None:
        saved, _ = resume_run(run, {"data": data, "done": 0, "seconds": 0.0, "fit": None})
        saved = saved or {"data": data, "done": 0, "seconds": 0.0, "fit": None}
        if saved["data"] != data:
            raise CheckpointError(
                f"{run.path} was made with other rows; give it back the files it began with, or "
                "start a new run"
            )
        self._run, self._data, self._fit = run, data, saved["fit"]
        self._spent, self._began = float(saved["seconds"]), time.process_time()
        self._progress = output.progress(None, label, start=int(saved["done"]))
        self._pending: tuple[int, State] | None = None
        self._pause, self._saved_at = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """CPU seconds of the fit, those before it was interrupted included."""
        return self._spent + time.process_time() - self._began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._save()
        finally:
            self._progress.close()

    def recall(self) -> Mapping[str, Any] | None:
        """What the run's checkpoint holds of the fit."""
        found: Mapping[str, Any] | None = self._fit
        return found

    def keep(self, done: int, total: int, state: State, numbers: Mapping[str, object]) -> None:
        """Log and show numbers, and save if the last time is long enough ago."""
        self._progress.total = total
        self._progress.update(done - self._progress.done, **numbers)
        self._run.log(done, **numbers)
        self._pending = (done, state)
        if time.monotonic() - self._saved_at >= self._pause:
            self._save()

    def _save(self) -> None:
        if self._pending is None:
            return
        began = time.monotonic()
        done, state = self._pending
        whole = {"data": self._data, "done": done, "seconds": self.seconds, "fit": dict(state())}
        self._run.save(done, whole, keep=1)
        self._pending, self._saved_at = None, time.monotonic()
        self._pause = (self._saved_at - began) / SHARE


def digest_of(*arrays: NDArray[Any]) -> str:
    """SHA-256 of arrays, their shapes and types."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.shape}{array.dtype.str}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
