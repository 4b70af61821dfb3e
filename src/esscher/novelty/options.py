"""Configuration of `esscher novelty`: what flags, TOML files and docs show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from esscher.errors import ConfigError
from esscher.novelty.inference import Inference
from esscher.novelty.naming import Rule

__all__ = ["CompareOptions", "DemoOptions", "FitOptions", "ModelFlags", "SimulateOptions"]


@dataclass(frozen=True)
class ModelFlags:
    """The model and the search for its posterior."""

    inference: Inference = "vb"
    """Variational inference, for many rows stochastic first (svi); or one of two slow samplers."""
    truncation: int = 20
    """Most novel clusters; the slice sampler has no such limit."""
    dirichlet_prior: float = 0.1
    """Prior weight of each class and of novelties, in observations."""
    stick_concentration: str = "5"
    """A positive number, larger for more clusters; or gamma, which learns it."""
    known_trust: float = 50.0
    """How many observations the robust estimate of a class is worth; no more than it has rows."""
    robust: Literal["mcd", "mrcd", "empirical"] = "mcd"
    """Estimates of the known classes: two that ignore outlying rows, or plain ones."""
    support_fraction: float | None = None
    """Share of a class's rows that robust estimates keep, in [0.5, 1]."""
    transductive: bool = True
    """Whether the batch, too, says where the known classes are."""
    start: Literal["outlying", "kmeans", "random", "prior"] = "outlying"
    """Where ascents and chains begin; kmeans as published."""
    n_init: int = 10
    """Ascents; the one with the highest bound is kept."""
    max_iter: int = 1000
    """Most sweeps of an ascent."""
    n_samples: int = 1000
    """Draws of a sampler."""
    burn_in: int = 1000
    """Its sweeps before them."""
    rule: Rule = "summed"
    """A row is novel where P(novel) > 1/2, or where its most probable component is."""
    n_jobs: int = 1
    """Processes at once; the result does not depend on it."""
    seed: int = 0
    """One integer for every random number."""
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    name: str = "novelty"
    """Name of the run."""

    def settings(self) -> dict[str, Any]:
        """Arguments of `NoveltyClassifier`.

        Raises:
            ConfigError: if stick_concentration is neither a positive number nor gamma.
        """
        names = (
            "inference", "truncation", "dirichlet_prior", "known_trust", "robust",
            "support_fraction", "transductive", "start", "n_init", "max_iter", "n_samples",
            "burn_in", "rule", "n_jobs",
        )  # fmt: skip
        given = {name: getattr(self, name) for name in names}
        return given | {
            "stick_concentration": _concentration(self.stick_concentration),
            "random_state": self.seed,
        }


@dataclass(frozen=True)
class FitOptions(ModelFlags):
    """`esscher novelty fit`: labelled rows, a batch, and what is known of both."""

    train: Path | None = None
    """CSV or Parquet file of labelled rows; the argument."""
    label: str = "label"
    """Its column with the classes; all other columns are features."""
    new: Path | None = None
    """File of the unlabelled batch with the same features."""
    truth: str | None = None
    """Column of the batch with its true classes, for the report only."""
    out: Path | None = None
    """File for label, novelty_probability and cluster of every row of the batch."""


@dataclass(frozen=True)
class CompareOptions(FitOptions):
    """`esscher novelty compare`: the same, beside detectors of scikit-learn."""

    name: str = "compare"
    """Name of the run."""


@dataclass(frozen=True)
class DemoOptions:
    """`esscher novelty demo`."""

    data: Literal["digits", "wine", "landsat"] = "digits"
    """Digits or wine, which are at hand; Landsat after `esscher data get statlog`."""
    seed: int = 0
    """One integer for every random number."""
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    name: str = "demo"
    """Name of the run."""


@dataclass(frozen=True)
class SimulateOptions:
    """`esscher novelty simulate`: rows of a published design."""

    design: Literal["classification", "mcmc_easy", "mcmc_hard", "sensitivity"] = "classification"
    """Seven Gaussians, three known; five, two known, near or far apart; or three and outliers."""
    dim: int = 2
    """Columns; those beyond two are noise."""
    factor: float = 1.0
    """Multiplies the sizes of the test classes."""
    swapped: int = 0
    """Training labels exchanged between the last two known classes."""
    train: Path = Path("train.csv")
    """File for the labelled rows."""
    test: Path = Path("test.csv")
    """File for the batch, with its true classes in the column truth."""
    seed: int = 0
    """One integer for every random number."""


def _concentration(text: str) -> float | Literal["gamma"]:
    if text == "gamma":
        return "gamma"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigError(f"stick_concentration must be a positive number or gamma, got {text!r}")
    return value
