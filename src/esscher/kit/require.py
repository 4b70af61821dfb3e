"""The one gate to optional dependencies."""

from __future__ import annotations

import importlib
from types import ModuleType

from esscher.errors import MissingExtra

__all__ = ["require"]


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: dotted name of the module, such as "transformers".
        extra: the extra of this package that installs it, such as "lm".

    Returns:
        The imported module.

    Raises:
        MissingExtra: if the module, or a part of it, is not installed. An error inside an installed
            module passes through unchanged.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise
        message = f'{module} is not installed; run: pip install "esscher[{extra}]"'
        raise MissingExtra(message, name=error.name) from error
