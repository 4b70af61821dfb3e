"""Configuration of `esscher pandora`: what flags, TOML files and docs show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

__all__ = [
    "CompareOptions",
    "DemoOptions",
    "GenerateOptions",
    "SimulateOptions",
    "SolveOptions",
    "SolverFlags",
]


@dataclass(frozen=True)
class SolverFlags:
    """How near to the optimum, how, and for how long."""

    eps: float = 1e-3
    """Largest gap between value and upper bound that counts as solved, relative to the bound."""
    method: Literal["auto", "exact", "types", "bnb", "ptas", "committing", "weitzman"] = "auto"
    """exact, types: tables over all sets of boxes, in types counting those alike; bnb: branch and
    bound; ptas: the approximation scheme; committing, weitzman: simple policies with a bound;
    auto: a table where it is small enough, else branch and bound."""
    time_limit: float | None = 60.0
    """Seconds after which bnb and ptas give the best policy so far, with its bound."""

    def settings(self) -> dict[str, Any]:
        """Arguments of `esscher.pandora.solve`."""
        return {"eps": self.eps, "method": self.method, "time_limit": self.time_limit}


@dataclass(frozen=True)
class SolveOptions(SolverFlags):
    """`esscher pandora solve`: value, bound, policy."""

    report: Path | None = None
    """HTML file for the report: the policy as a tree and in words, thresholds, payoffs."""
    unit: str = ""
    """Of values and costs, for the report; such as k€."""
    plays: int = 100_000
    """Simulated searches for the report."""
    seed: int = 0
    """Of these."""


@dataclass(frozen=True)
class CompareOptions(SolveOptions):
    """`esscher pandora compare`: the optimum beside the policies people use."""


@dataclass(frozen=True)
class SimulateOptions(SolverFlags):
    """`esscher pandora simulate`: plays of a policy against its computed value."""

    policy: Literal["optimal", "weitzman", "committing"] = "optimal"
    """What is played: what the solver finds, Weitzman's rule, or the best commitment."""
    n: int = 100_000
    """Plays."""
    scenarios: Path | None = None
    """Table with a column per box and a row per play, instead; boxes may depend on each other."""
    seed: int = 0
    """One integer for every random number."""


@dataclass(frozen=True)
class GenerateOptions:
    """`esscher pandora generate`: an instance of a family."""

    family: str = "random"
    """random, heavy_tailed, tight, exposed or hardness_stress."""
    n: int | None = None
    """Boxes; 8 by default, 2 of the tight family."""
    H: Annotated[float, Parameter(name="--H")] = 1000.0
    """Large value of the tight family."""
    out: Path | None = None
    """File, .json or a table; standard output by default."""
    seed: int = 0
    """One integer for every random number."""


@dataclass(frozen=True)
class DemoOptions:
    """`esscher pandora demo`."""

    plays: int = 100_000
    """Simulated searches per policy."""
    seed: int = 0
    """One integer for every random number."""
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    name: str = "demo"
    """Name of the run."""
