"""A point that has to get past an obstacle, which experts pass on its left or on its right.

State: position (x, y). Action: a velocity in [-1, 1]²; a step moves by 0.1 times it, at most 0.1
far. Reward -0.02 per step, +1 at the goal (end), -1 at the obstacle (end); 60 steps at most. The
obstacle is a disc around (0.05, 0), so that left is a little shorter.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError
from esscher.kit.rl.policy import Policy
from esscher.kit.rl.rollout import EnvStep, rollout
from esscher.kit.rl.transitions import Transitions
from esscher.kit.runs.seeds import Streams
from esscher.offline.data import MixedDataset

__all__ = [
    "CENTRE",
    "GOAL",
    "RADIUS",
    "START",
    "PointMass",
    "expert",
    "move",
    "point_mass_data",
    "point_mass_scores",
    "shortest_path",
]

START, GOAL, CENTRE = (0.0, -0.6), (0.0, 0.6), (0.05, 0.0)
RADIUS, REACH, SPEED = 0.35, 0.1, 0.1
JITTER = 0.003
HORIZON = 60
STEP_COST = 0.02
_CLEAR = {-1: (0.04, 0.12), 1: (0.1, 0.3)}
"""How far from the obstacle the left and the right expert pass: every copy keeps its own way."""
_GAIN = 5.0
"""How fast experts come back to their way, per unit of y."""

Floats = NDArray[np.float32]


class PointMass:
    """n points at once; a `BatchEnv`.

    Args:
        n: points, >= 1.
        rng: of the starts.

    Attributes:
        collided: [n] bool: whether the last step hit the obstacle.

    Raises:
        ConfigError: if n < 1.
    """

    obs_dim = 2
    low, high = np.full(2, -1, dtype=np.float32), np.full(2, 1, dtype=np.float32)

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        if n < 1:
            raise ConfigError(f"PointMass needs n >= 1, got {n}")
        self.n, self._rng = n, rng
        self._place = np.zeros((n, 2))
        self._steps = np.zeros(n, dtype=np.int64)
        self.collided = np.zeros(n, dtype=bool)

    def reset(self) -> Floats:
        """Every point near the start."""
        self._place, self._steps = self._starts(self.n), np.zeros(self.n, dtype=np.int64)
        return self._place.astype(np.float32)

    def step(self, action: Floats) -> EnvStep:
        """Move every point: [n, 2]."""
        # In the precision of what is observed, so that the data are the dynamics.
        before = self._place.astype(np.float32).astype(np.float64)
        reached, self.collided, at_goal = move(before, action.astype(np.float64))
        self._steps += 1
        terminated = self.collided | at_goal
        truncated = ~terminated & (self._steps >= HORIZON)
        reward = -STEP_COST + at_goal.astype(np.float64) - self.collided
        self._place = reached.copy()
        ended = terminated | truncated
        self._place[ended] = self._starts(int(ended.sum()))
        self._steps[ended] = 0
        return EnvStep(
            reached.astype(np.float32),
            reward.astype(np.float32),
            terminated,
            truncated,
            self._place.astype(np.float32),
        )

    def _starts(self, count: int) -> NDArray[np.float64]:
        return np.asarray(START) + self._rng.uniform(-JITTER, JITTER, (count, 2))


def move(
    place: NDArray[np.float64], action: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Where points [n, 2] get to, whether they hit the obstacle on the way, whether at the goal."""
    bounded = np.clip(action, -1, 1)
    length = np.linalg.norm(bounded, axis=1, keepdims=True)
    step = SPEED * bounded / np.maximum(length, 1)
    reached = np.clip(place + step, -1, 1)
    # The whole segment counts: its point closest to the obstacle's centre.
    way, offset = reached - place, np.asarray(CENTRE) - place
    along = (way * offset).sum(1) / np.maximum((way**2).sum(1), 1e-12)
    closest = place + np.clip(along, 0, 1)[:, None] * way
    collided = np.linalg.norm(closest - CENTRE, axis=1) < RADIUS
    at_goal = ~collided & (np.linalg.norm(reached - GOAL, axis=1) < REACH)
    return reached, collided, at_goal


def expert(side: int, n: int, noise: float, rng: np.random.Generator) -> Policy:
    """Follow half a wave past the obstacle on one side, at full speed, with noise.

    Args:
        side: -1 for left, 1 for right.
        n: copies it acts in; each passes at a distance of its own.
        noise: standard deviation of the action.
        rng: of distances and noise.
    """
    aside = CENTRE[0] + side * (RADIUS + rng.uniform(*_CLEAR[side], n))
    rate = math.pi / (GOAL[1] - START[1])

    def act(obs: Floats) -> Floats:
        x, y = obs.astype(np.float64).T
        slope = -aside * rate * np.sin(rate * y)
        back = _GAIN * (aside * np.cos(rate * y) - x)
        heading = np.stack([slope + back, np.ones_like(x)], 1)
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        return np.clip(heading + noise * rng.normal(size=heading.shape), -1, 1).astype(np.float32)

    return act


def point_mass_data(episodes: int = 200, seed: int = 0, noise: float = 0.07) -> MixedDataset:
    """Logs of the left and the right expert, as many episodes of each."""
    streams, parts = Streams(seed), []
    for number, (name, side) in enumerate((("left", -1), ("right", 1))):
        env = PointMass(50, streams.numpy("starts", name))
        policy = expert(side, env.n, noise, streams.numpy("noise", name))
        rows = rollout(env, policy, episodes // 2, policy_id=number)
        parts.append((_dataset(rows), episodes // 2))
    return MixedDataset.mix(parts, by="episodes", seed=seed)


def point_mass_scores(policy: Policy, episodes: int = 100, seed: int = 0) -> dict[str, float]:
    """Share of fresh starts that end in a "collision_rate", and the mean undiscounted "return"."""
    env = PointMass(episodes, Streams(seed).numpy("evaluation"))
    rows = rollout(env, policy, episodes)
    collisions = rows.terminated & (rows.reward < -0.5)
    return {
        "collision_rate": float(collisions.sum() / episodes),
        "return": float(rows.returns()[0].mean()),
    }


def shortest_path(start: tuple[float, float] = START) -> float:
    """Length of the shortest way to the goal's centre: two tangents and an arc."""
    a, b = (np.asarray(p) - CENTRE for p in (start, GOAL))
    reach = [math.sqrt(float(p @ p) - RADIUS**2) for p in (a, b)]
    used = sum(math.acos(RADIUS / float(np.linalg.norm(p))) for p in (a, b))
    angle = math.acos(float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b)))
    arcs = [max(0.0, turn - used) for turn in (angle, 2 * math.pi - angle)]
    return sum(reach) + RADIUS * min(arcs)


def _dataset(rows: Transitions) -> MixedDataset:
    return MixedDataset(rows, (-1.0, -1.0), (1.0, 1.0), ("left", "right"), "point mass")
