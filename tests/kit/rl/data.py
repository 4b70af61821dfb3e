"""Small data sets and an environment with nothing unknown."""

from __future__ import annotations

import numpy as np

from esscher.kit.rl.rollout import EnvStep
from esscher.kit.rl.transitions import Episode, join_episodes


def episodes(lengths=(3, 1, 4), d=2, m=1, seed=0):
    """Episodes that end, in turn, by termination and by truncation."""
    rng = np.random.default_rng(seed)
    return [
        Episode(
            rng.normal(size=(n + 1, d)).astype(np.float32),
            rng.uniform(-1, 1, (n, m)).astype(np.float32),
            rng.normal(size=n).astype(np.float32),
            i % 2 == 0,
            i % 2 == 1,
            i % 3,
        )
        for i, n in enumerate(lengths)
    ]


def transitions(**settings):
    return join_episodes(episodes(**settings))


class Counter:
    """Copies that count their steps: observation (copy, steps). Copy i ends after i + 2 steps.

    Odd copies terminate, even ones are truncated. The reward is the action.
    """

    obs_dim = 2
    low, high = np.array([-2.0], np.float32), np.array([2.0], np.float32)

    def __init__(self, n):
        self.n = n

    def reset(self):
        self.steps = np.zeros(self.n)
        return self._obs()

    def _obs(self):
        return np.stack([np.arange(self.n), self.steps], 1).astype(np.float32)

    def step(self, action):
        self.steps = self.steps + 1
        reached = self._obs()
        ended = self.steps >= np.arange(self.n) + 2
        odd = np.arange(self.n) % 2 == 1
        self.steps[ended] = 0
        return EnvStep(reached, action[:, 0], ended & odd, ended & ~odd, self._obs())
