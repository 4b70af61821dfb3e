"""A bandit with one kind of state where only two thin slivers are known, and one where all is.

A state s is one number in [-1, 1]. For s < 0 the data hold two narrow modes, a = ±0.6 with a
standard deviation of 0.05; the reward is near 1 at +0.6, near 0.6 at -0.6 and near 0 between. For
s > 0 the data fill the box and the reward has its maximum at 0.8.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esscher.kit.rl.networks import Actor
from esscher.kit.rl.normalise import Standardiser
from esscher.kit.rl.transitions import Transitions
from esscher.kit.runs.seeds import Streams
from esscher.offline.data import MixedDataset
from esscher.offline.densities.mixture import Mixture, OracleDensity

__all__ = ["MODE", "bandit_data", "bandit_density", "bandit_scores", "reward_of"]

MODE = 0.6
"""Where the modes are, on both sides of 0."""
SPREAD = 0.05
NARROW, WIDE = 0.25, 0.3
BEST_WIDE = 0.8
LOW_VALUE = 0.6
OUT = 0.15
"""Three standard deviations: an action farther from both modes is out of distribution."""
GRID = 201

Floats = NDArray[np.float64]


def reward_of(state: Floats, action: Floats) -> Floats:
    """The reward, without noise."""
    narrow = _bump(action, MODE, NARROW) + LOW_VALUE * _bump(action, -MODE, NARROW)
    return np.where(state < 0, narrow, _bump(action, BEST_WIDE, WIDE))


def bandit_data(n: int = 4000, seed: int = 0) -> MixedDataset:
    """Logs of three policies: one per mode where s < 0, and a uniform one where s > 0."""
    rng = Streams(seed).numpy("bandit")
    state = rng.uniform(-1, 1, n)
    high = rng.random(n) < 0.5
    narrow = np.where(high, MODE, -MODE) + SPREAD * rng.normal(size=n)
    action = np.where(state < 0, np.clip(narrow, -1, 1), rng.uniform(-1, 1, n))
    rows = Transitions(
        state[:, None].astype(np.float32),
        action[:, None].astype(np.float32),
        reward_of(state, action).astype(np.float32),
        state[:, None].astype(np.float32),
        np.ones(n, dtype=bool),
        np.zeros(n, dtype=bool),
        np.where(state < 0, high.astype(np.int32), 2).astype(np.int32),
        np.arange(n),
    )
    return MixedDataset(rows, (-1.0,), (1.0,), ("low mode", "high mode", "uniform"), "bandit")


def bandit_density(standardiser: Standardiser) -> OracleDensity:
    """The true density where s < 0, and eight Gaussians for the uniform one where s > 0."""
    even = torch.linspace(-0.875, 0.875, 8)
    modes = torch.tensor([-MODE, MODE]).repeat(4)

    def mixture(obs: Tensor) -> Mixture:
        state = obs * standardiser.std + standardiser.mean
        narrow = state < 0
        mean = torch.where(narrow, modes, even)[..., None]
        std = torch.where(narrow, SPREAD, 0.14)[..., None].expand_as(mean)
        return Mixture(torch.full(mean.shape[:2], -math.log(8)), mean, std)

    return OracleDensity(1, mixture)


@torch.no_grad()
def bandit_scores(actor: Actor, standardiser: Standardiser) -> dict[str, float]:
    """Exact measures on a grid of states: return where s < 0 and s > 0, share out of distribution.

    Returns:
        "narrow_return", "narrow_ood" (share of s < 0 with an action more than 0.15 from both
        modes), "wide_return", "all_return".
    """
    grid = np.linspace(-1, 1, 2 * GRID + 1)
    grid = grid[grid != 0]
    obs = standardiser(torch.from_numpy(grid[:, None].astype(np.float32)))
    action = actor(obs).squeeze(1).double().numpy()
    value, narrow = reward_of(grid, action), grid < 0
    away = np.abs(np.abs(action) - MODE) > OUT
    return {
        "narrow_return": float(value[narrow].mean()),
        "narrow_ood": float(away[narrow].mean()),
        "wide_return": float(value[~narrow].mean()),
        "all_return": float(value.mean()),
    }


def _bump(action: Floats, centre: float, width: float) -> Floats:
    found: Floats = np.exp(-(((action - centre) / width) ** 2))
    return found
