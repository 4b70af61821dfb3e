"""Data sets that are not part of the package: where they lie, and how they get there.

A data set is a folder of files with known checksums. It is looked for in the folder `shared/data`
beside the checkout, in `$ESSCHER_DATA` and in the user's cache, in this order; `download` brings
it into the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from zipfile import BadZipFile

from esscher.errors import ConfigError, DataError
from esscher.kit.require import require

__all__ = ["DATA_SETS", "DataSet", "data_set", "download", "find", "folder_of"]

BESIDE = Path(__file__).resolve().parents[4].parent / "shared" / "data"
VARIABLE = "ESSCHER_DATA"


@dataclass(frozen=True)
class DataSet:
    """A data set that can be had.

    Attributes:
        name: of its folder.
        title: what it is called elsewhere.
        url: a zip archive that holds its files.
        files: SHA-256 by name.
        licence: its terms.
        reference: what to cite.
    """

    name: str
    title: str
    url: str
    files: Mapping[str, str]
    licence: str
    reference: str


_STATLOG = DataSet(
    "statlog",
    "Statlog (Landsat Satellite)",
    "https://archive.ics.uci.edu/static/public/146/statlog+landsat+satellite.zip",
    MappingProxyType(
        {
            "sat.trn": "e896dc88a960fa2404160fc4c3cb3dc53fcf4afd80ba920bf2d261bd42d12613",
            "sat.tst": "4b9167b8a92baafafed7c8809aef86d0683a5e685c19d98d119fa6974f0f2479",
        }
    ),
    "CC BY 4.0, as the UCI Machine Learning Repository lists it",
    "Srinivasan (1993), Statlog (Landsat Satellite), UCI Machine Learning Repository",
)

DATA_SETS: Mapping[str, DataSet] = MappingProxyType({_STATLOG.name: _STATLOG})


def data_set(name: str) -> DataSet:
    """A data set of the registry.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in DATA_SETS:
        raise ConfigError(f"no data set is called {name!r}; there are: {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def find(wanted: DataSet, cache: Path) -> Path | None:
    """The first folder that has all of its files; None where there is none.

    Args:
        wanted: the data set.
        cache: the user's cache of data sets.
    """
    given = os.environ.get(VARIABLE)
    places = [BESIDE, *([Path(given)] if given else []), cache]
    for place in places:
        folder = place / wanted.name
        if all((folder / name).is_file() for name in wanted.files):
            return folder
    return None


def folder_of(wanted: DataSet, cache: Path) -> Path:
    """The folder of a data set that is at hand, its files checked.

    Raises:
        DataError: if it is not at hand, or a file is not the one that is known.
    """
    folder = find(wanted, cache)
    if folder is None:
        raise DataError(f"{wanted.title} is not at hand; {_advice(wanted)}")
    _check(wanted, folder)
    return folder


def download(wanted: DataSet, cache: Path) -> Path:
    """The folder of a data set, fetched into the cache where it is not at hand.

    Raises:
        DataError: if it cannot be fetched, or a file is not the one that is known; nothing is kept
            then.
        MissingExtra: if it has to be fetched and pooch is not installed.
    """
    if find(wanted, cache) is not None:
        return folder_of(wanted, cache)
    pooch = require("pooch", extra="data")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".part-") as part, _quiet(pooch):
            files = pooch.Unzip(members=list(wanted.files), extract_dir="files")
            pooch.retrieve(wanted.url, None, fname="archive.zip", path=part, processor=files)
            _check(wanted, Path(part) / "files")
            (Path(part) / "files").rename(cache / wanted.name)
    except (OSError, BadZipFile) as error:
        # What requests raises is an OSError as well.
        raise DataError(f"cannot fetch {wanted.url}: {error}; {_advice(wanted)}") from error
    return cache / wanted.name


def _advice(wanted: DataSet) -> str:
    return (
        f"run `esscher data get {wanted.name}` where there is a network, or put "
        f"{' and '.join(wanted.files)} into {wanted.name}/ of a folder and name that folder in "
        f"${VARIABLE}"
    )


def _check(wanted: DataSet, folder: Path) -> None:
    for name, expected in wanted.files.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"the archive {wanted.url} holds no {name}; {_advice(wanted)}")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise DataError(
                f"{path.name} of {wanted.title} is damaged or another edition: its SHA-256 is "
                f"{found}, not {expected}; remove {folder} if it is there, and {_advice(wanted)}"
            )


@contextlib.contextmanager
def _quiet(pooch: ModuleType) -> Iterator[None]:
    """Without the notes pooch writes to standard error."""
    logger: logging.Logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
