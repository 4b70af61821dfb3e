"""Imitation of strong branching: gather its decisions, then fit a network to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from esscher.branch.config import TrainConfig
from esscher.branch.learners import imitation
from esscher.branch.learners.imitation import Sample
from esscher.branch.packing import pack, unpack
from esscher.branch.playing import Episode
from esscher.branch.trainer import StateTrainer
from esscher.errors import ConfigError
from esscher.kit.runs.seeds import Streams

__all__ = ["ImitationTrainer"]

HELD_OUT = 6
"""Every sixth sample is held out, as of 120,000 samples the published 20,000."""
GATHERING = 0.7
"""Share of the budget after which what was gathered has to do."""


class ImitationTrainer(StateTrainer[imitation.ImitationState]):
    """Gathers an expert's decisions from episodes, and fits a network to them by epochs.

    Args:
        config: with the method "imitation".
        seed: of everything random.

    Attributes:
        samples: gathered so far.
        epochs: fitted so far.
        ended: whether the held-out loss has not become better for long.
    """

    def __init__(self, config: TrainConfig, seed: int) -> None:
        self.config = config
        super().__init__(imitation.init(config.network, config.cloning, Streams(seed)))
        self.samples: list[Sample] = []
        self.epochs = 0
        self.ended = False

    def gathered(self, progress: float) -> bool:
        """Whether there are enough samples, or no more time for them."""
        return len(self.samples) >= self.config.imitation.samples or progress >= GATHERING

    def take(self, episode: Episode, progress: float) -> dict[str, float]:
        """Keep an episode's samples."""
        del progress
        left = self.config.imitation.samples - len(self.samples)
        found = zip(episode.observations, episode.scores, strict=True)
        self.samples += [Sample(*pair) for pair in list(found)[:left]]
        return {"samples": float(len(self.samples))}

    def epoch(self) -> dict[str, float]:
        """Fit to every sample once, and look at those held out.

        Raises:
            ConfigError: if there are too few samples.
        """
        if len(self.samples) < HELD_OUT:
            raise ConfigError(
                f"only {len(self.samples)} decisions of the expert were gathered; allow more "
                "minutes, or ask it more often"
            )
        held = self.samples[::HELD_OUT]
        seen = [s for i, s in enumerate(self.samples) if i % HELD_OUT]
        config = self.config.cloning
        infos = [
            imitation.step(self.state, batch)
            for batch in imitation.shuffled(seen, config.batch, self.state.rng)
        ]
        found = imitation.assess(self.network, held)
        self.ended = not imitation.end_epoch(self.state, found.loss, config)
        self.epochs += 1
        return {
            "loss": float(np.mean([info.loss for info in infos])),
            "held_out_loss": found.loss,
            **{f"top_{k}": share for k, share in found.accuracy.items()},
        }

    def take_best(self) -> None:
        """Go back to the weights of the least held-out loss."""
        if self.state.best is not None:
            self.network.load_state_dict(self.state.best)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next episode or epoch needs."""
        return {
            "learner": self.state.state_dict(),
            "observations": pack([sample.observation for sample in self.samples]),
            "scores": [torch.from_numpy(sample.scores) for sample in self.samples],
            "epochs": self.epochs,
            "ended": self.ended,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.state.load_state_dict(saved["learner"])
        scores = [score.numpy() for score in saved["scores"]]
        pairs = zip(unpack(saved["observations"]), scores, strict=True)
        self.samples = [Sample(*pair) for pair in pairs]
        self.epochs, self.ended = int(saved["epochs"]), bool(saved["ended"])
