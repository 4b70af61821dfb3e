"""The run folder: everything one run was given, did and found, in files that outlive it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from esscher.errors import CheckpointError, ConfigError, DataError
from esscher.kit.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from esscher.kit.runs.config import config_hash, to_mapping, to_toml
from esscher.kit.runs.environment import describe_environment
from esscher.kit.runs.files import json_ready, read_rows, write_atomic, write_json
from esscher.kit.runs.presence import Heartbeat, terminate_as_interrupt
from esscher.kit.runs.record import Record
from esscher.kit.runs.seeds import Streams
from esscher.kit.runs.tree import flatten_tree, unflatten_tree

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Run"]

_FILES = ("metrics.jsonl", "samples.jsonl", "log.txt")


class Run(Record):
    """One run and its folder `<root>/<time>_<system>-<verb>_<name>_<hash>/`.

    Made by `Run.create` or `Run.open`. As a context manager it shows signs of life, turns SIGTERM
    into KeyboardInterrupt, and writes to `log.txt` how it ended; an exception that leaves it
    carries the folder as its attribute `run_path`.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._exit = contextlib.ExitStack()

    @classmethod
    def create(
        cls, root: Path, system: str, verb: str, name: str, *, config: DataclassInstance, seed: int
    ) -> Run:
        """Make a new folder, whole or not at all.

        Args:
            root: parent folder, made if absent.
            system: such as "align".
            verb: such as "fit".
            name: free text; what is not a letter, digit, "." or "-" becomes "-".
            config: frozen dataclass, fully resolved.
            seed: of the run's random streams.

        Raises:
            ConfigError: if the configuration or the seed cannot be recorded, the name is empty, or
                root is not writable.
        """
        text, digest = to_toml(config), config_hash(config)
        env = describe_environment(Streams(seed).seed) | {"config_hash": digest}
        slug = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")
        if not slug:
            raise ConfigError(f"a run needs a name with a letter or digit, got {name!r}")
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}_{system}-{verb}_{slug}_{digest}"
        part = root / f".{stem}.{os.getpid()}.tmp"
        try:
            part.mkdir(parents=True)
            write_atomic(part / "config.toml", text)
            write_json(part / "env.json", env)
            (part / "state").mkdir()
            for file in _FILES:
                (part / file).touch()
            return cls(_place(part, root / stem))
        except OSError as error:
            raise ConfigError(f"cannot make a run folder in {root}: {error}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    @classmethod
    def open(cls, path: Path, config: DataclassInstance | None = None) -> Run:
        """Open an existing folder, to read it or to resume.

        Args:
            path: the folder.
            config: the configuration the run is about to continue with.

        Raises:
            ConfigError: if the path is not a run folder.
            CheckpointError: if the run was made with another configuration.
        """
        run = cls(path)
        if config is not None and config_hash(config) != run.env()["config_hash"]:
            ours, theirs = to_mapping(config), run.config()
            keys = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
            raise CheckpointError(
                f"{path} was made with another configuration; different: {', '.join(keys)}; "
                f"resume with its own {path / 'config.toml'}, or start a new run"
            )
        return run

    def __enter__(self) -> Run:
        with contextlib.ExitStack() as stack:
            stack.enter_context(terminate_as_interrupt())
            heartbeat = Heartbeat(self.path / "heartbeat")
            heartbeat.start()
            stack.callback(heartbeat.stop)
            self._exit = stack.pop_all()
        self.note("started")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.note("ended")
                return
            error.run_path = self.path  # type: ignore[attr-defined]
            if isinstance(error, KeyboardInterrupt):
                self.note("interrupted")
            else:
                self.note("failed\n" + "".join(traceback.format_exception(kind, error, trace)))
        finally:
            self._exit.close()

    def log(self, step: int, **metrics: object) -> None:
        """Append a row to `metrics.jsonl`.

        Args:
            step: the step the numbers belong to.
            metrics: numbers, None for "not available", or estimates (objects whose `to_json()` has
                a "mean"), which become `name`, `name_se`, `name_n` and so on.

        Raises:
            NumericsError: if a number is NaN or infinite; the metric is named.
            DataError: if a metric is no such thing, or is called "time".
        """
        if "time" in metrics:
            raise DataError("the metric name 'time' is taken by the clock; choose another")
        row: dict[str, Any] = {"step": step, "time": round(time.time(), 3)}
        for name, metric in metrics.items():
            value = json_ready(metric, f"metric {name!r} at step {step}")
            if isinstance(value, dict) and "mean" in value:
                row[name] = value["mean"]
                row |= {f"{name}_{key}": part for key, part in value.items() if key != "mean"}
            else:
                row[name] = value
        self._append("metrics.jsonl", row)

    def sample(self, step: int, **fields: object) -> None:
        """Append what the model produced at a step, with its scores, to `samples.jsonl`."""
        row = {name: json_ready(value, f"sample field {name!r}") for name, value in fields.items()}
        self._append("samples.jsonl", {"step": step, **row})

    def note(self, text: str) -> None:
        """Append a line with the time to `log.txt`."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text.rstrip()}\n")

    def save(self, step: int, state: object, *, keep: int = 2) -> None:
        """Save everything needed to continue after this step; see `flatten_tree` for its form.

        Raises:
            CheckpointError: if it cannot be written; earlier checkpoints are then untouched.
        """
        tensors, tree = flatten_tree(state)
        save_checkpoint(self.path / "state", step, tensors, {"tree": tree}, keep=keep)

    def resume(self, step: int | None = None) -> tuple[int, Any]:
        """Go back to a checkpoint, the newest by default: (step, state).

        Rows logged after that step are dropped, so that a resumed run leaves the same files as an
        uninterrupted one. The result of an earlier end is dropped too.

        Raises:
            CheckpointError: if there is no intact checkpoint.
        """
        checkpoint: Checkpoint = load_checkpoint(self.path / "state", step)
        state = unflatten_tree(checkpoint.tensors, checkpoint.state["tree"])
        for name in ("metrics.jsonl", "samples.jsonl"):
            _truncate(self.path / name, lambda row: int(row["step"]) <= checkpoint.step)
        (self.path / "result.json").unlink(missing_ok=True)
        self.note(f"resumed after step {checkpoint.step}")
        return checkpoint.step, state

    def finish(self, result: Mapping[str, object]) -> None:
        """Write the final numbers to `result.json`, which marks the run as done.

        Raises:
            NumericsError: if a number is NaN or infinite.
        """
        write_json(self.path / "result.json", result)

    def _append(self, name: str, row: Mapping[str, object]) -> None:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False)
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _place(part: Path, wanted: Path) -> Path:
    """Rename to the wanted name, or to it with -2, -3, … where that is taken."""
    for number in range(1, 1000):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            part.rename(path)
        except OSError:
            if not path.exists():
                raise
        else:
            return path
    raise OSError(f"{wanted} and 998 more of that name are taken")


def _truncate(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    rows = read_rows(path, keep)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_atomic(path, "".join(lines))
