"""Policies without a network: random, most infeasible, pseudocosts, SCIP's own rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from esscher.branch.focus import Focus

__all__ = ["MostInfeasible", "Pseudocost", "RandomChoice", "ScipRule"]


@dataclass(frozen=True)
class ScipRule:
    """One of SCIP's own branching rules, such as relpscost, pscost or vanillafullstrong.

    Node counts of strong rules are not comparable with a policy's: they tighten domains on the way,
    and solve LPs that are not counted as nodes.
    """

    name: str
    """As in SCIP's parameter branching/NAME/priority."""


class RandomChoice:
    """A candidate uniformly at random.

    Args:
        seed: of the choices; every solve continues the stream.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def begin(self, model: Any) -> None:
        """Nothing to prepare."""

    def choose(self, focus: Focus) -> int:
        """Position among the candidates."""
        return int(self._rng.integers(len(focus.variables)))


class MostInfeasible:
    """The candidate whose LP value is nearest to a half; the first of equals."""

    def begin(self, model: Any) -> None:
        """Nothing to prepare."""

    def choose(self, focus: Focus) -> int:
        """Position among the candidates."""
        return int(np.argmin(np.abs(focus.fractions - 0.5)))


class Pseudocost:
    """The candidate with SCIP's greatest pseudocost score; the first of equals.

    The scores are SCIP's, of gains seen so far in this solve, without its reliability look-ahead.
    """

    def begin(self, model: Any) -> None:
        """Nothing to prepare."""

    def choose(self, focus: Focus) -> int:
        """Position among the candidates."""
        scores = [
            focus.model.getVarPseudocostScore(variable, value)
            for variable, value in zip(focus.variables, focus.values.tolist(), strict=True)
        ]
        return int(np.argmax(scores))
