"""Public names of a package that are loaded where they are used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`: help and light commands then need no heavy module.

    A name must not be that of its module, which would hide it once it is loaded.

    Args:
        package: its `__name__`.
        places: public name -> module of the package that defines it.
    """

    def load(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{places[name]}"), name)

    return load
