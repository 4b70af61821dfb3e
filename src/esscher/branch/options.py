"""Configuration of `esscher branch`: what flags, TOML files and docs show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from esscher.errors import ConfigError

__all__ = [
    "CompareOptions",
    "EvaluateOptions",
    "GenerateOptions",
    "ScipOptions",
    "SolveOptions",
    "TreeOptions",
]

Settings = Literal["scip", "gasse", "nocut", "plain", "bare"]
Selector = Literal["default", "dfs", "bfs", "uct"]


@dataclass(frozen=True)
class ScipOptions:
    """How SCIP is set."""

    settings: Settings = "bare"
    """SCIP's parameters: its own (scip), cuts at the root only (gasse), no cuts (nocut), no
    presolving, cuts or propagation (plain), nor primal heuristics (bare)."""
    selector: Selector = "default"
    """Choice of the next node: SCIP's, depth first, best bound first, upper confidence."""
    time_limit: float = math.inf
    """Seconds of a solve, >= 0."""
    node_limit: int | None = None
    """Nodes of a solve, >= 1; no limit by default."""
    max_depth: int | None = None
    """Deepest node at which the policy is asked, the root being at 0; the fallback takes over."""
    fallback: str = "relpscost"
    """SCIP's rule for nodes the policy is not asked at."""
    seed: int = 0
    """Of SCIP's permutations, of policies that choose at random and of the bootstrap; >= 0."""

    def __post_init__(self) -> None:
        if not self.time_limit >= 0:
            raise ConfigError(f"time_limit must be >= 0 seconds, got {self.time_limit}")
        if self.node_limit is not None and self.node_limit < 1:
            raise ConfigError(f"node_limit must be >= 1, got {self.node_limit}")
        if self.max_depth is not None and self.max_depth < 0:
            raise ConfigError(f"max_depth must be >= 0, got {self.max_depth}")
        if self.seed < 0:
            raise ConfigError(f"seed must be >= 0, got {self.seed}")


@dataclass(frozen=True)
class SolveOptions(ScipOptions):
    """`esscher branch solve`: one instance, one policy."""

    policy: str = "relpscost"
    """random, mostinfeasible, pseudocost, strong, one of SCIP's rules (relpscost, pscost,
    vanillafullstrong, scip:NAME), or the folder of a fitted policy or its run."""
    settings: Settings = "scip"
    """SCIP's parameters, see `esscher branch evaluate --help`."""
    sol: Path | None = None
    """File for the best solution, in SCIP's format."""


@dataclass(frozen=True)
class TreeOptions(ScipOptions):
    """`esscher branch tree`: the search tree of one instance."""

    policy: str = "pseudocost"
    """As of `esscher branch solve`; the tree needs one that is asked at the nodes."""
    out: Path | None = None
    """JSON file for the tree: every node's parent, bound, variable, direction and fate."""
    svg: Path | None = None
    """File for a drawing."""
    select: str = ""
    """Rule by which trajectories are cut and drawn, such as max_leaf_lp_gain; none by default."""


@dataclass(frozen=True)
class GenerateOptions:
    """`esscher branch generate`: instances of a class, in files."""

    count: int = 20
    """Instances, >= 1."""
    seed: int = 1
    """Of the stream they come from; training takes none below 2**32."""
    first: int = 0
    """Number of the first one in the stream."""
    format: Literal["mps", "lp"] = "mps"
    """mps keeps every digit and the order of the variables."""
    out: Path | None = None
    """Folder; by default named after class and seed."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed must be >= 0, got {self.seed}")


@dataclass(frozen=True)
class EvaluateOptions(ScipOptions):
    """`esscher branch evaluate`: policies on the same instances with the same seeds."""

    policies: tuple[str, ...] = ("random", "mostinfeasible", "pseudocost")
    """As of `esscher branch solve`, or LABEL=NAME; the arguments."""
    problems: str = "setcover-165x230"
    """Class of instances, a folder of them, or a file."""
    count: int | None = None
    """Instances at most; 20 of a class, all of a folder."""
    problem_seed: int = 1
    """Of the stream of a class; training takes none below 2**32."""
    seeds: int = 1
    """Seeds of SCIP and the policies on every instance, from `seed` upwards, >= 1."""
    base: str = ""
    """Label of the policy the others are held against; the first by default."""
    scale: str = "serial"
    """Where solves run: serial, processes:N or ray:N. Times are those of loaded cores."""
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    name: str = "evaluate"
    """Name of the run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.problem_seed < 0:
            raise ConfigError(f"problem_seed must be >= 0, got {self.problem_seed}")
        if self.seeds < 1:
            raise ConfigError(f"seeds must be >= 1, got {self.seeds}")


@dataclass(frozen=True)
class CompareOptions(EvaluateOptions):
    """`esscher branch compare`: an evaluation with trees, curves and a report."""

    policies: tuple[str, ...] = ("pseudocost", "random", "mostinfeasible", "strong", "relpscost")
    """As of `esscher branch solve`, or LABEL=NAME; the arguments."""
    drawn: int = 0
    """Number of the instance whose trees are drawn, the first being 0."""
    name: str = "compare"
    """Name of the run."""
