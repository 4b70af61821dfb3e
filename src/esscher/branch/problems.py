"""Instances to solve: from files, drawn from a class, or in memory. They can be sent to workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from esscher.branch.instances.collection import INDEX, Collection
from esscher.branch.instances.files import READ, read_model
from esscher.branch.instances.kind import InstanceClass, instance
from esscher.branch.instances.sizes import SIZES, named
from esscher.branch.milp import Milp
from esscher.errors import ConfigError, DataError
from esscher.kit.runs.typed import nearest

__all__ = ["Drawn", "InFile", "InMemory", "Problem", "Source", "as_problems", "problems_of"]


class Problem(Protocol):
    """An instance, by what it takes to make its model."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    def model(self) -> Any:
        """A fresh `pyscipopt.Model`."""
        ...


@dataclass(frozen=True)
class InFile:
    """An instance in a file."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def model(self) -> Any:
        """A fresh `pyscipopt.Model`."""
        return read_model(self.path)


@dataclass(frozen=True)
class Drawn:
    """Instance `number` of the stream of a class and a seed."""

    kind: InstanceClass
    seed: int
    number: int

    @property
    def name(self) -> str:
        """Class, seed and number."""
        return f"{self.kind.name}-{self.seed}-{self.number}"

    def model(self) -> Any:
        """A fresh `pyscipopt.Model`."""
        return instance(self.kind, self.seed, self.number).to_scip()


@dataclass(frozen=True, eq=False)
class InMemory:
    """A program in memory."""

    milp: Milp

    @property
    def name(self) -> str:
        """The program's."""
        return self.milp.name

    def model(self) -> Any:
        """A fresh `pyscipopt.Model`."""
        return self.milp.to_scip()


Source: TypeAlias = Problem | Milp | Path


def as_problems(sources: Sequence[Source]) -> list[Problem]:
    """Files and programs as problems.

    Raises:
        ConfigError: if there is none, or a name occurs twice.
    """
    found: list[Problem] = []
    for source in sources:
        if isinstance(source, Milp):
            found.append(InMemory(source))
        else:
            found.append(InFile(source) if isinstance(source, Path) else source)
    names = [problem.name for problem in found]
    if not names:
        raise ConfigError("there is no instance to solve")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two instances are called {twice[0]!r}; give them different names")
    return found


def problems_of(source: str, count: int | None = None, seed: int = 1) -> list[Problem]:
    """The instances a word stands for.

    Args:
        source: the name of a class and size such as "setcover-165x230", a folder of instances, or a
            file.
        count: how many at most; of a class 20 by default, else all.
        seed: of the stream of a class.

    Raises:
        ConfigError: if there is neither such a class nor such a file or folder, or count < 1.
        DataError: if a folder holds no instance, or a file cannot be read.
    """
    if count is not None and count < 1:
        raise ConfigError(f"count must be >= 1, got {count}")
    path = Path(source)
    if source in SIZES:
        kind = named(source)
        return [Drawn(kind, seed, i) for i in range(20 if count is None else count)]
    if path.is_dir():
        return [*map(InFile, _files(path)[:count])]
    if path.is_file():
        return [InFile(path)]
    if path.suffix or "/" in source:
        raise DataError(f"there is no file or folder {source}")
    raise ConfigError(
        f"no class of instances {source!r}{nearest(source, list(SIZES))}, and no file or folder "
        f"either; classes: {', '.join(sorted(SIZES))}"
    )


def _files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        return list(Collection.read(folder).paths)
    found = sorted(path for path in folder.iterdir() if path.name.lower().endswith(READ))
    if not found:
        raise DataError(f"{folder} holds no instance; files end in {', '.join(READ)}")
    return found
