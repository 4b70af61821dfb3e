"""`esscher data`: data sets that are not part of the package."""

from __future__ import annotations

from typing import Any

from esscher.errors import ConfigError
from esscher.kit.data.registry import DATA_SETS, data_set, download, find
from esscher.kit.runs.environment import cache_folder
from esscher.kit.runs.output import Output

__all__ = ["get", "listed"]


def get(name: str | None = None, *, list: bool = False, output: Output) -> dict[str, Any]:
    """Fetch a data set into the user's cache, where it is not at hand, and say where it lies.

    Args:
        name: the data set.
        list: show the data sets there are instead.
        output: where notes go.

    Raises:
        ConfigError: if no data set is named, or none is called so.
        DataError: if it cannot be fetched, or its checksums are wrong.
    """
    if list:
        return listed()
    if name is None:
        raise ConfigError(f"name a data set: {', '.join(DATA_SETS)}")
    wanted, cache = data_set(name), cache_folder() / "data"
    here = find(wanted, cache) is not None
    if not here:
        output.say(f"fetching {wanted.url}")
    folder = download(wanted, cache)
    return {
        "name": wanted.name,
        "folder": str(folder),
        "fetched": not here,
        "files": sorted(wanted.files),
        "licence": wanted.licence,
        "cite": wanted.reference,
    }


def listed() -> dict[str, Any]:
    """Show the data sets there are, and where they lie."""
    rows = []
    for name, each in DATA_SETS.items():
        folder = find(each, cache_folder() / "data")
        at = None if folder is None else str(folder)
        rows.append({"name": name, "title": each.title, "folder": at, "licence": each.licence})
    return {"data": rows}
