"""What SCIP's own rules did on the way that a node count does not show."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from esscher.kit.require import require

__all__ = ["fair_nodes"]

_SYMBOLS = ("SCIPfindBranchrule", "SCIPbranchruleGetNCutoffs", "SCIPbranchruleGetNDomredsFound")


def fair_nodes(model: Any) -> int | None:
    """Nodes + 2 · (cutoffs + domain reductions) of SCIP's branching rules, after a solve.

    A strong rule that finds one child infeasible tightens a bound instead of branching; a policy
    that only branches would have made two nodes of it. Of such policies this is their number of
    nodes (Gasse et al. 2019).

    Args:
        model: a `pyscipopt.Model` that was solved.

    Returns:
        None where PySCIPOpt's SCIP library, which alone knows these numbers, is not found.
    """
    library = _library()
    if library is None:
        return None
    pointer = _pointer(model)
    work = 0
    for name in _rules():
        rule = library.SCIPfindBranchrule(pointer, name)
        if rule:
            work += library.SCIPbranchruleGetNCutoffs(rule)
            work += library.SCIPbranchruleGetNDomredsFound(rule)
    return int(model.getNTotalNodes()) + 2 * int(work)


@cache
def _library() -> Any:
    """The SCIP library that PySCIPOpt has loaded; None where it lies or is made otherwise."""
    package = Path(str(require("pyscipopt", "milp").__file__)).parent
    for path in sorted(package.parent.glob("pyscipopt.libs/libscip-*")):
        try:
            library = ctypes.CDLL(str(path))
            find, cutoffs, reductions = (getattr(library, name) for name in _SYMBOLS)
        except (AttributeError, OSError):
            continue
        find.argtypes, find.restype = [ctypes.c_void_p, ctypes.c_char_p], ctypes.c_void_p
        for count in (cutoffs, reductions):
            count.argtypes, count.restype = [ctypes.c_void_p], ctypes.c_longlong
        return library
    return None


@cache
def _rules() -> tuple[bytes, ...]:
    keys = require("pyscipopt", "milp").Model().getParams()
    parts = (key.split("/") for key in keys if key.startswith("branching/"))
    return tuple(part[1].encode() for part in parts if part[-1] == "priority")


def _pointer(model: Any) -> int:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.argtypes, get.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    pointer: int = get(model.to_ptr(False), b"scip")
    return pointer
