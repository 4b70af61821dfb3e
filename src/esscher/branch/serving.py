"""Scores of one observation at a time, as fast as a CPU allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from esscher.branch.compiling import available
from esscher.branch.folding import FoldedNetwork
from esscher.branch.graphs import collate
from esscher.branch.network import BipartiteNetwork
from esscher.branch.observation.base import Observation
from esscher.errors import ConfigError, NumericsError
from esscher.kit.require import require

__all__ = ["Scorer"]

Floats = NDArray[np.float32]


class Scorer:
    """A network frozen for decisions on a CPU: its weights as they were, folded.

    Compiled, it differs from the network's forward in the order of rounding only: gains and shifts
    of norms go into the map that follows, two maps without anything between them are one, and means
    that a norm would take off are taken off weights beforehand.

    Args:
        network: on any device; later changes do not show until `refresh`.
        implementation: "fast" needs numba, "torch" does not; "auto" takes what there is.

    Attributes:
        network: the network.
        implementation: "fast" or "torch", which of them it is.

    Raises:
        MissingExtra: if "fast" is asked for and numba is not installed.
        ConfigError: if the implementation is unknown.
    """

    def __init__(
        self,
        network: BipartiteNetwork,
        implementation: Literal["auto", "fast", "torch"] = "auto",
    ) -> None:
        if implementation not in ("auto", "fast", "torch"):
            raise ConfigError(f"implementation is auto, fast or torch, got {implementation!r}")
        if implementation == "fast":
            require("numba", "fast")
        self.network = network
        fast = implementation != "torch" and available()
        self.implementation = "fast" if fast else "torch"
        self._score: Callable[[Observation], Floats] = self._by_torch
        self.refresh()

    def refresh(self) -> None:
        """Take the network's weights as they are now."""
        if self.implementation == "fast":
            self._score = FoldedNetwork(self.network)

    def scores(self, observation: Observation) -> Floats:
        """[K] Q-values or logits of the candidates.

        Raises:
            ShapeError: if the observation lacks features of the network.
            NumericsError: if a score is not finite.
        """
        found = self._score(observation)
        if not np.isfinite(found).all():
            raise NumericsError(
                f"{int((~np.isfinite(found)).sum())} of {len(found)} scores are not finite; look "
                "at the observation's features and at the network's weights"
            )
        return found

    def _by_torch(self, observation: Observation) -> Floats:
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            batch = collate([observation], self.network.config.features)
            found: Floats = self.network(batch.to(device)).cpu().numpy()
        return found
