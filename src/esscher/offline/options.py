"""Configuration of `esscher offline`: what flags, TOML files and docs show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from esscher.errors import ConfigError

__all__ = [
    "CollectOptions",
    "CompareOptions",
    "DemoOptions",
    "EvaluateOptions",
    "FitOptions",
    "InspectOptions",
    "MixOptions",
]


@dataclass(frozen=True)
class DemoOptions:
    """`esscher offline demo`."""

    seeds: int = 3
    """Seeds of every fit, >= 1."""
    seed: int = 0
    """The first of them."""
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    name: str = "demo"
    """Name of the run."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"seeds must be >= 1, got {self.seeds}")


@dataclass(frozen=True)
class CollectOptions:
    """`esscher offline collect`: behaviour policies of several levels, and their logs."""

    env: str = "Pendulum-v1"
    """Gymnasium environment, or point-mass."""
    levels: tuple[str, ...] = ("random", "medium", "expert")
    """random; medium, the first policy half way from random to the best; expert, the best."""
    episodes: int = 50
    """Episodes of each level."""
    transitions: int | None = None
    """Transitions of each level instead: whole episodes until there are so many."""
    policies: Path | None = None
    """Folder of policies an earlier collect wrote, to log again without training."""
    train_steps: int = 10_000
    """Environment steps of the training that the levels come from."""
    width: int = 128
    """Units of a hidden layer in that training."""
    batch: int = 128
    """Transitions per step of it."""
    lr: float = 1e-3
    """Learning rate of actor and critics in it."""
    noise: float = 0.1
    """Standard deviation of the noise on logged actions, in units of half the action box."""
    root: Path = Path("data")
    """Folder that holds data sets."""
    dataset: str = ""
    """Name of the data set; by default that of the environment."""
    seed: int = 0
    """One integer for every random number."""

    def __post_init__(self) -> None:
        for name in ("episodes", "transitions", "train_steps", "width", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be >= 1, got {value}")
        if not self.noise >= 0:
            raise ConfigError(f"noise must be >= 0, got {self.noise}")


@dataclass(frozen=True)
class MixOptions:
    """`esscher offline mix`: one data set of several."""

    ratio: str = ""
    """Shares or numbers, one per data set, such as 0.5:0.5 or 30000:15000; all by default."""
    by: Literal["transitions", "episodes"] = "transitions"
    """What is counted."""
    policies: tuple[str, ...] = ()
    """Take only what these policies did."""
    root: Path = Path("data")
    """Folder that holds data sets."""
    dataset: str = "mixed-v0"
    """Name of the new one."""
    seed: int = 0
    """Which episodes are taken."""


@dataclass(frozen=True)
class InspectOptions:
    """`esscher offline inspect`: who did what, and where the data are narrow."""

    density_steps: int = 5000
    """Most gradient steps of the behaviour density."""
    policy: Path | None = None
    """Run of a fit whose actions are held against the density."""
    seed: int = 0
    """One integer for every random number."""
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    name: str = "inspect"
    """Name of the run."""


@dataclass(frozen=True)
class FitOptions:
    """`esscher offline fit`."""

    data: Path | None = None
    """Data set, a folder in Minari's layout or a flat HDF5 or npz file; the argument."""
    method: str = "td3_rkl"
    """Learner by name, such as td3_rkl, td3_bc, rebrac, brac, spot, iql, cql or bc."""
    steps: int = 20_000
    """Gradient steps."""
    alpha: float | None = None
    """Scale of Q against the regulariser; the method's own by default."""
    weight: Literal["none", "entropy", "within_var", "dual"] | None = None
    """Weight per state; the method's own by default."""
    density: Literal["mdn", "gaussian", "cvae", "flow"] | None = None
    """Behaviour density; the method's own by default."""
    density_steps: int = 5000
    """Most gradient steps of the behaviour density."""
    width: int = 256
    """Units of a hidden layer."""
    batch: int = 256
    """Transitions per step."""
    evaluations: int = 10
    """Rows in the metrics, each with an evaluation where the environment is known."""
    episodes: int = 10
    """Episodes of an evaluation."""
    env: str | None = None
    """Environment of evaluations; the data set's by default, "none" for none."""
    seed: int = 0
    """One integer for every random number."""
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    name: str = "offline"
    """Name of the run."""

    def __post_init__(self) -> None:
        for name in ("steps", "density_steps", "width", "batch", "evaluations", "episodes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be >= 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class EvaluateOptions:
    """`esscher offline evaluate`."""

    episodes: int = 50
    """Episodes, >= 1."""
    env: str | None = None
    """Environment; that of the fit's data by default."""
    seed: int = 1
    """Of the starts."""


@dataclass(frozen=True)
class CompareOptions(FitOptions):
    """`esscher offline compare`: several learners on one data set."""

    methods: tuple[str, ...] = ("bc", "td3_bc", "td3_rkl")
    """Learners by name; the option method is passed over."""
    seeds: int = 3
    """Fits of each."""
    name: str = "compare"
    """Name of the run."""
