"""The model of stage 2: known classes, and a truncated Dirichlet process of novelties.

    y_m given ξ_m = k ~ N(μ_k, Σ_k)
    ξ_m = known class j with probability π_j, novel atom h with π_0 ω_h
    π ~ Dirichlet(α_0, ..., α_J);  ω by stick-breaking, V_h ~ Beta(1, γ), V_T = 1
    (μ, Σ)_k ~ NIW, for known classes around their robust estimates, for atoms all alike

Reference: Benedetti et al. (2023), Advances in Data Analysis and Classification, for the model;
Blei and Jordan (2006) for the truncation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from esscher.errors import ConfigError, ShapeError
from esscher.novelty.niw import NIW, Array

__all__ = ["GammaPrior", "Posterior", "Prior"]


class GammaPrior(NamedTuple):
    """Gamma(shape, rate) law of the concentration γ."""

    shape: float
    rate: float


@dataclass(frozen=True)
class Prior:
    """Prior of J known classes and T novel atoms.

    Attributes:
        components: J + T laws of mean and covariance, the known classes first.
        n_known: J >= 1.
        dirichlet: [J + 1] α > 0, the novelties' first.
        concentration: γ > 0, or its Gamma law.
    """

    components: NIW
    n_known: int
    dirichlet: Array
    concentration: float | GammaPrior

    def __post_init__(self) -> None:
        if self.n_known < 1 or self.truncation < 1:
            raise ConfigError(
                f"at least one known class and one novel atom are needed, got {self.n_known} and "
                f"{self.truncation}"
            )
        if self.dirichlet.shape != (self.n_known + 1,):
            raise ShapeError(
                f"dirichlet needs {self.n_known + 1} numbers, got {self.dirichlet.shape}"
            )
        numbers = [*self.dirichlet, *np.atleast_1d(self.concentration)]
        if not all(0 < number < math.inf for number in numbers):
            raise ConfigError(f"dirichlet and concentration must be positive, got {numbers}")

    @property
    def truncation(self) -> int:
        """T."""
        return len(self.components) - self.n_known

    @cached_property
    def atoms_alike(self) -> bool:
        """Whether all novel atoms have one law."""
        law, j = self.components, self.n_known
        parts = (law.mean, law.kappa, law.dof, law.scale)
        return all(bool((part[j:] == part[j]).all()) for part in parts)


@dataclass(frozen=True)
class Posterior:
    """q(π) q(V) q(μ, Σ) (and q(γ) where it is learnt), all in the prior's families.

    Attributes:
        components: J + T laws.
        n_known: J.
        dirichlet: [J + 1] η, the novelties' first.
        sticks: [T - 1, 2] parameters a, b of the Beta laws of V.
        concentration: the Gamma law of γ; None where γ is known.
    """

    components: NIW
    n_known: int
    dirichlet: Array
    sticks: Array
    concentration: GammaPrior | None = None

    @property
    def truncation(self) -> int:
        """T."""
        return len(self.components) - self.n_known
