"""The optimum of the point mass by value iteration on a grid."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.kit.rl.policy import Policy
from esscher.offline.problems.point_mass import HORIZON, STEP_COST, move

__all__ = ["GridOptimum", "grid_optimum"]

Floats = NDArray[np.float64]


class GridOptimum(NamedTuple):
    """Value iteration's result.

    Attributes:
        nodes: [G] coordinates of the grid along each axis.
        value: [G, G] undiscounted optimal return at (x, y).
        policy: greedy in it, among the grid's directions.
    """

    nodes: Floats
    value: Floats
    policy: Policy


@lru_cache(maxsize=1)
def grid_optimum(size: int = 81, directions: int = 32) -> GridOptimum:
    """Optimal values of the point mass, bilinear between nodes, full speed in each direction.

    A successor that ends the episode has its reward only; inside the obstacle the value is that of
    a collision, so that values near its edge lean to the safe side.
    """
    nodes = np.linspace(-1, 1, size)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    angle = 2 * np.pi * np.arange(directions) / directions
    actions = np.stack([np.cos(angle), np.sin(angle)], 1)
    moves = [_outcome(grid, action, nodes) for action in actions]
    value = np.full(len(grid), -STEP_COST * HORIZON)
    for _ in range(HORIZON):
        value = np.max([_backed_up(value, *part) for part in moves], 0)
    table = value.reshape(size, size)

    def act(obs: NDArray[np.float32]) -> NDArray[np.float32]:
        place = obs.astype(np.float64)
        gains = [_backed_up(value, *_outcome(place, action, nodes)) for action in actions]
        best: NDArray[np.float32] = actions[np.argmax(gains, 0)].astype(np.float32)
        return best

    return GridOptimum(nodes, table, act)


def _outcome(place: Floats, action: Floats, nodes: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Reward, whether it goes on, and the four nodes around the successor with their weights."""
    reached, collided, at_goal = move(place, np.broadcast_to(action, place.shape))
    reward = -STEP_COST + at_goal - collided.astype(np.float64)
    size = len(nodes)
    scaled = (reached + 1) / 2 * (size - 1)
    cell = np.clip(scaled.astype(int), 0, size - 2)
    part = scaled - cell
    index, weight = [], []
    for dx in (0, 1):
        for dy in (0, 1):
            index.append((cell[:, 0] + dx) * size + cell[:, 1] + dy)
            wx = part[:, 0] if dx else 1 - part[:, 0]
            wy = part[:, 1] if dy else 1 - part[:, 1]
            weight.append(wx * wy)
    goes_on = (~(collided | at_goal)).astype(np.float64)
    around: Floats = np.array(index, dtype=np.float64)
    return reward.astype(np.float64), goes_on, around, np.array(weight)


def _backed_up(
    value: Floats, reward: Floats, goes_on: Floats, index: Floats, weight: Floats
) -> Floats:
    after: Floats = (value[index.astype(np.int64)] * weight).sum(0)
    return reward + goes_on * after
