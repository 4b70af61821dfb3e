"""The functions of the SCIP library that PySCIPOpt has loaded, by address."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError
from esscher.kit.require import require

__all__ = ["KNOWN_MAJORS", "ScipLibrary", "address_of", "scip_library"]

KNOWN_MAJORS = (10,)
"""Major versions of SCIP whose getters are known to have the signatures used here."""

EXTRA = "milp"

_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


class ScipLibrary:
    """Looks up SCIP's functions."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def has(self, name: str) -> bool:
        """Whether the library exports a function of this name."""
        return hasattr(self._handle, name)

    def addresses(self, names: Sequence[str]) -> NDArray[np.int64]:
        """[K] addresses of functions.

        Raises:
            ConfigError: if some are missing; they are named.
        """
        missing = [name for name in names if not self.has(name)]
        if missing:
            raise ConfigError(f"the SCIP library does not export {', '.join(missing)}")
        found = [ctypes.cast(getattr(self._handle, name), ctypes.c_void_p).value for name in names]
        return np.array(found, dtype=np.int64)

    def call(self, name: str, result: Any, arguments: int) -> Callable[..., Any]:
        """A function from Python, with `arguments` addresses as its arguments.

        Raises:
            ConfigError: if it is missing.
        """
        (address,) = self.addresses([name])
        kind = ctypes.PYFUNCTYPE(result, *[ctypes.c_int64] * arguments)
        found: Callable[..., Any] = kind(int(address))
        return found


@functools.cache
def scip_library() -> ScipLibrary:
    """The library in use by `pyscipopt`, not another one that may be installed.

    Raises:
        MissingExtra: if pyscipopt is not installed.
        ConfigError: if the library cannot be found, or is of a version not in `KNOWN_MAJORS`.
    """
    extension = require("pyscipopt.scip", EXTRA).__file__
    for path in _places(Path(str(extension))):
        try:
            handle = ctypes.CDLL(str(path))
        except OSError:
            continue
        library = ScipLibrary(handle)
        if library.has("SCIPmajorVersion"):
            major = library.call("SCIPmajorVersion", ctypes.c_int, 0)()
            if major not in KNOWN_MAJORS:
                known = " or ".join(map(str, KNOWN_MAJORS))
                raise ConfigError(f"SCIP {known} is known here, pyscipopt brings SCIP {major}")
            return library
    raise ConfigError(f"the SCIP library that {extension} uses could not be found")


def address_of(model: Any) -> int:
    """Address of the SCIP instance of a `pyscipopt.Model`, or of a proxy of one."""
    return int(_capsule_pointer(model.to_ptr(False), b"scip"))


def _places(extension: Path) -> list[Path]:
    """The extension itself, through which its libraries are searched, and where wheels put them."""
    package = extension.parent
    folders = (package.parent / "pyscipopt.libs", package / ".dylibs", package)
    return [extension, *(path for folder in folders for path in sorted(folder.glob("libscip*")))]
