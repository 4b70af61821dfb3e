"""Where instances come from: the stream of a class, or files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from esscher.branch.instances.files import READ, read_model
from esscher.branch.instances.kind import InstanceClass, instance
from esscher.branch.instances.sizes import named
from esscher.errors import ConfigError, DataError

__all__ = ["Files", "Source", "Stream", "source_of"]


class Source(Protocol):
    """Numbered instances; picklable."""

    @property
    def count(self) -> int | None:
        """How many there are; None for as many as one likes."""
        ...

    def name(self, i: int) -> str:
        """Of instance i."""
        ...

    def model(self, i: int) -> Any:
        """A fresh `pyscipopt.Model` of instance i."""
        ...


@dataclass(frozen=True)
class Stream:
    """Instances of a class, drawn as they are wanted."""

    kind: InstanceClass
    """The law."""
    seed: int
    """Of the stream; training and evaluation take different ones."""

    @property
    def count(self) -> int | None:
        """As many as one likes."""
        return None

    def name(self, i: int) -> str:
        """Class, seed and number."""
        return f"{self.kind.name}-{self.seed}-{i}"

    def model(self, i: int) -> Any:
        """A fresh `pyscipopt.Model` of instance i."""
        return instance(self.kind, self.seed, i).to_scip()


@dataclass(frozen=True)
class Files:
    """Instances in files, taken in turns."""

    paths: tuple[Path, ...]
    """Files that SCIP reads, at least one."""

    @property
    def count(self) -> int | None:
        """The number of files."""
        return len(self.paths)

    def name(self, i: int) -> str:
        """Of the file."""
        return self.paths[i % len(self.paths)].name

    def model(self, i: int) -> Any:
        """A fresh `pyscipopt.Model` of instance i."""
        return read_model(self.paths[i % len(self.paths)])


def source_of(problem: str, seed: int) -> Source:
    """Instances by name: a size such as "setcover-165x230", a file, or a folder of files.

    Args:
        problem: name or path.
        seed: of the stream of a class.

    Raises:
        ConfigError: if there is neither such a class nor such a path.
        DataError: if a folder holds no files that SCIP reads.
    """
    path = Path(problem)
    if path.is_file():
        return Files((path,))
    if path.is_dir():
        paths = tuple(sorted(p for p in path.iterdir() if _read(p.name)))
        if not paths:
            raise DataError(f"{path} holds no file that ends in {', '.join(READ)}")
        return Files(paths)
    if _read(path.name) or "/" in problem:
        raise ConfigError(f"there is no file or folder {problem}")
    return Stream(named(problem), seed)


def _read(name: str) -> bool:
    ends: Callable[[str], bool] = name.lower().endswith
    return any(ends(ending) for ending in READ)
