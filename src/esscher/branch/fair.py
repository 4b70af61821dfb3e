"""What SCIP's own rules did on the way that a node count does not show."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from esscher.branch.named import scip_rules
from esscher.branch.observation.library import address_of, scip_library
from esscher.errors import ConfigError

__all__ = ["fair_nodes"]


def fair_nodes(model: Any) -> int | None:
    """Nodes + 2 · (cutoffs + domain reductions) of SCIP's branching rules, after a solve.

    A strong rule that finds one child infeasible tightens a bound instead of branching; a policy
    that only branches would have made two nodes of it. Of such policies this is their number of
    nodes (Gasse et al. 2019).

    Args:
        model: a `pyscipopt.Model` that was solved.

    Returns:
        None where SCIP's library, which alone knows these numbers, is not found or not known.
    """
    try:
        find, counts = _functions()
    except ConfigError:
        return None
    rules = [find(address_of(model), ctypes.addressof(name)) for name in _names()]
    work = sum(count(rule) for rule in rules if rule for count in counts)
    return int(model.getNTotalNodes()) + 2 * int(work)


@cache
def _functions() -> tuple[Any, tuple[Any, Any]]:
    """Finding a rule by name, and what it counts: cutoffs, domain reductions."""
    library = scip_library()
    whole = ctypes.c_longlong
    return library.call("SCIPfindBranchrule", ctypes.c_int64, 2), (
        library.call("SCIPbranchruleGetNCutoffs", whole, 1),
        library.call("SCIPbranchruleGetNDomredsFound", whole, 1),
    )


@cache
def _names() -> tuple[Any, ...]:
    """The rules' names where C can read them."""
    return tuple(ctypes.create_string_buffer(name.encode()) for name in scip_rules())
