"""A folder of instances that were drawn, and the index that says how."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from esscher.branch.instances.files import write_milp
from esscher.branch.instances.kind import InstanceClass, check_whole, instance
from esscher.branch.instances.sizes import CLASSES
from esscher.errors import ConfigError, DataError
from esscher.kit.runs.files import read_json, write_json

__all__ = ["INDEX", "Collection", "generate"]

INDEX = "instances.json"


@dataclass(frozen=True)
class Collection:
    """Instances in files.

    Attributes:
        kind: the law they were drawn from.
        seed: of the stream.
        numbers: which instances of the stream.
        paths: their files.
    """

    kind: InstanceClass
    seed: int
    numbers: tuple[int, ...]
    paths: tuple[Path, ...]

    @classmethod
    def read(cls, folder: Path) -> Collection:
        """Read the index of a folder that `generate` wrote.

        Raises:
            DataError: if there is no index, a field of it is missing or wrong, or a file it lists
                is not there.
        """
        path = folder / INDEX
        if not path.is_file():
            raise DataError(f"{folder} has no {INDEX}; instances are generated into a folder")
        rows = read_json(path)
        try:
            kind = CLASSES[rows["class"]](**rows["parameters"])
            seed = int(rows["seed"])
            numbers = tuple(int(row["i"]) for row in rows["instances"])
            paths = tuple(folder / str(row["file"]) for row in rows["instances"])
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path} is no index of instances: {type(error).__name__} {error}"
            ) from error
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise DataError(f"{folder} lacks {len(missing)} of its instances, such as {missing[0]}")
        return cls(kind, seed, numbers, paths)


def generate(
    kind: InstanceClass,
    folder: Path,
    count: int,
    seed: int,
    *,
    first: int = 0,
    ending: str = ".mps",
) -> Collection:
    """Draw instances of a stream into a folder, and write `instances.json` last.

    Args:
        kind: the law: a class of `CLASSES`.
        folder: is made where it does not exist.
        count: how many, at least 1.
        seed: of the stream.
        first: the number of the first one in the stream.
        ending: ".mps" or ".lp".

    Raises:
        ConfigError: if a number is out of range or the class is unknown.
        DataError: if the folder holds an index already, or cannot be written to.
    """
    check_whole("count", count, 1)
    check_whole("first", first, 0)
    names = [name for name, known in CLASSES.items() if known is type(kind)]
    if not names:
        raise ConfigError(f"{type(kind).__name__} is none of {', '.join(CLASSES)}")
    if (folder / INDEX).exists():
        raise DataError(f"{folder} holds instances already; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make {folder}: {error}") from error
    numbers = tuple(range(first, first + count))
    paths = tuple(folder / f"{kind.name}-{seed}-{i}{ending}" for i in numbers)
    for i, path in zip(numbers, paths, strict=True):
        write_milp(path, instance(kind, seed, i))
    parameters: dict[str, Any] = asdict(kind)  # type: ignore[call-overload]
    write_json(
        folder / INDEX,
        {
            "class": names[0],
            "parameters": parameters,
            "seed": seed,
            "instances": [
                {"i": i, "file": path.name} for i, path in zip(numbers, paths, strict=True)
            ],
        },
    )
    return Collection(kind, seed, numbers, paths)
