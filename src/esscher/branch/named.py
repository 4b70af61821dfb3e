"""Policies by name, or from the folder of a fitted one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from esscher.branch.focus import Policy
from esscher.branch.policies import MostInfeasible, Pseudocost, RandomChoice, ScipRule
from esscher.branch.strong import StrongBranching
from esscher.errors import CheckpointError, ConfigError, DataError
from esscher.kit.require import require
from esscher.kit.runs.typed import nearest

__all__ = ["POLICIES", "RULES", "labelled", "policy_folder", "policy_named", "scip_rules"]

POLICIES = ("random", "mostinfeasible", "pseudocost", "strong")
"""Policies that need no training."""
RULES = ("relpscost", "pscost", "vanillafullstrong")
"""SCIP's own rules that go by their name alone; all of them go by scip:NAME."""
_PREFIX = "scip:"
_PLAIN: dict[str, Callable[[], Policy]] = {
    "mostinfeasible": MostInfeasible,
    "pseudocost": Pseudocost,
    "strong": StrongBranching,
}


def policy_named(name: str, seed: int = 0) -> Policy | ScipRule:
    """A policy.

    Args:
        name: one of `POLICIES` or `RULES`, "scip:NAME" for any of SCIP's own rules, or the folder
            of a fitted policy or of the run that fitted it.
        seed: of policies that choose at random.

    Raises:
        ConfigError: if there is no such policy; the nearest name is given.
        DataError: if a folder holds no policy that can be used.
        MissingExtra: if pyscipopt is not installed.
    """
    if name.startswith(_PREFIX) or name in RULES:
        return _rule(name.removeprefix(_PREFIX))
    if name == "random":
        return RandomChoice(seed)
    return _PLAIN[name]() if name in _PLAIN else _fitted(name)


@cache
def scip_rules() -> tuple[str, ...]:
    """SCIP's own branching rules, by name."""
    keys = require("pyscipopt", "milp").Model().getParams()
    parts = (key.split("/") for key in keys if key.startswith("branching/"))
    return tuple(sorted(part[1] for part in parts if len(part) == 3 and part[2] == "priority"))


def policy_folder(path: Path) -> Path:
    """Where the policy lies: in the folder itself, or in `policy/` of a run."""
    inner = path / "policy"
    return inner if inner.is_dir() else path


def labelled(names: Sequence[str]) -> dict[str, str]:
    """Policies by the label they have in tables.

    Args:
        names: as `policy_named` takes them, or LABEL=NAME. A folder is called by its own name, or
            that of the run, where no other has it.

    Raises:
        ConfigError: if a label occurs twice, or is empty.
    """
    found: dict[str, str] = {}
    for each in names:
        label, equals, name = each.partition("=")
        if not equals:
            label, name = _label(each), each
        if not label or not name:
            raise ConfigError(f"a policy is NAME or LABEL=NAME, got {each!r}")
        if label in found:
            raise ConfigError(
                f"two policies would be called {label!r}: {found[label]} and {name}; name them as "
                "LABEL=NAME"
            )
        found[label] = name
    return found


def _label(name: str) -> str:
    path = Path(name)
    if not path.is_dir():
        return name
    path = path.resolve()
    return path.parent.name if path.name == "policy" else path.name


def _rule(name: str) -> ScipRule:
    known = scip_rules()
    if name not in known:
        raise ConfigError(
            f"SCIP has no branching rule {name!r}{nearest(name, known)}; there are: "
            f"{', '.join(known)}"
        )
    return ScipRule(name)


def _fitted(name: str) -> Policy:
    path = Path(name)
    if not path.is_dir():
        known = [*POLICIES, *RULES]
        raise ConfigError(
            f"no policy {name!r}{nearest(name, known)}; there are {', '.join(known)}, scip:NAME "
            "for another of SCIP's rules, and folders of fitted policies"
        )
    from esscher.branch.graph_policy import load_policy  # noqa: PLC0415 - it loads torch
    from esscher.branch.observation.observer import make_observer  # noqa: PLC0415

    try:
        return load_policy(policy_folder(path), make_observer)
    except CheckpointError as error:
        raise DataError(f"{name} cannot be used as a policy: {error}") from error
