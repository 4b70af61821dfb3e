"""Reading a run folder: what it was given, how far it is, what it found."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from esscher.errors import ConfigError
from esscher.kit.runs.config import load_toml
from esscher.kit.runs.files import read_json, read_rows
from esscher.kit.runs.presence import is_alive

__all__ = ["Record"]


class Record:
    """A run folder as it is now; `Run` adds the writing.

    Args:
        path: the folder.

    Raises:
        ConfigError: if the path is not a run folder.
    """

    def __init__(self, path: Path) -> None:
        if not (path / "config.toml").is_file() or not (path / "env.json").is_file():
            raise ConfigError(f"{path} is not a run folder: it has no config.toml and env.json")
        self.path = path

    def config(self) -> dict[str, Any]:
        """The resolved configuration, as `from_mapping` takes it."""
        return load_toml(self.path / "config.toml")

    def env(self) -> dict[str, Any]:
        """The environment the run was made in."""
        return read_json(self.path / "env.json")

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, in order."""
        return read_rows(self.path / "metrics.jsonl")

    def samples(self) -> list[dict[str, Any]]:
        """The rows of `samples.jsonl`, in order."""
        return read_rows(self.path / "samples.jsonl")

    def result(self) -> dict[str, Any] | None:
        """The final numbers, None while the run is not done."""
        path = self.path / "result.json"
        return read_json(path) if path.exists() else None

    def status(self) -> Literal["done", "running", "interrupted"]:
        """Done with a result, running with a fresh sign of life, else interrupted."""
        if (self.path / "result.json").exists():
            return "done"
        return "running" if is_alive(self.path / "heartbeat") else "interrupted"
