"""Commands of a made-up system, as `esscher.cli.table` describes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import esscher.errors
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output


@dataclass(frozen=True)
class Optim:
    lr: float = 1e-3
    """Learning rate, > 0."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of the averages."""


@dataclass(frozen=True)
class FitOptions:
    steps: int = 10
    """Gradient steps, >= 1."""
    divergence: Literal["js", "kl"] = "js"
    """What is minimised."""
    prompts: tuple[str, ...] = ()
    """Prompts; repeat the flag."""
    limit: float | None = None
    """Largest weight, if any."""
    out: Path = Path("runs")
    """Parent of the run folder."""
    greedy: bool = False
    """Take the most probable token."""
    optim: Optim = field(default_factory=Optim)
    """Optimiser."""

    def __post_init__(self):
        if self.steps < 1:
            raise esscher.errors.ConfigError(f"steps must be >= 1, got {self.steps}")


@dataclass(frozen=True)
class NeedyOptions:
    model: str
    """Folder of the model."""
    n: int = 1
    """How many."""


def fit(config: FitOptions, output: Output) -> dict:
    """Tune something.

    At length.

    Args:
        config: settings.
        output: how to speak.
    """
    print("a library prints")
    with output.progress(1, "fit") as progress:
        progress.update(KL=0.5)
    return {"config": repr(config), "kl": {"mean": 0.5, "se": 0.01, "n": 100}, "limit": None}


def go_on(config: FitOptions, *, resume: Path | None = None) -> dict:
    """Tune something, or go on with it."""
    return {"config": repr(config), "resume": resume}


def needy(config: NeedyOptions) -> dict:
    """Use a model."""
    return {"model": config.model, "n": config.n}


def nothing() -> None:
    """Do nothing."""


def check() -> dict:
    """Judge."""
    return {"ok": False, "rows": [{"claim": "[red]a[/red]", "nested": {"b": {"x": 1}}}]}


def bad_number() -> dict:
    """Return what cannot be printed."""
    return {"kl": {"mean": math.nan}}


def fail(kind: str) -> None:
    """Raise an error."""
    errors = {"KeyboardInterrupt": KeyboardInterrupt, "KeyError": KeyError}
    raise errors.get(kind, getattr(esscher.errors, kind, RuntimeError))("what happened")


def stop(folder: Path) -> None:
    """Be interrupted inside a run."""
    with Run.create(folder, "toy", "fit", "x", config=Optim(), seed=0):
        raise KeyboardInterrupt
