"""Replay of transitions between observations that are graphs of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from esscher.branch.graphs import FeatureSet, GraphBatch, collate
from esscher.branch.observation.base import Observation
from esscher.branch.packing import pack, unpack
from esscher.branch.priorities import Priorities, SumTree
from esscher.errors import CheckpointError, ConfigError, DataError, ShapeError

__all__ = ["Memory", "TransitionBatch"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LARGEST_HALF = float(np.finfo(np.float16).max)
NUMBERS = {"action": np.int64, "reward": np.float64, "discount": np.float64}


class TransitionBatch(NamedTuple):
    """B transitions (s, a, r, s', γ).

    Attributes:
        graphs: the observations.
        place: [B] int64 position of the candidate chosen, among the graph's own.
        reward: [B] sum of discounted rewards on the way to the successor.
        discount: [B] what the successor's value counts; 0 where there is none.
        successors: observations that follow, of those that have one; None if none has.
        followed: [B'] int64 which transitions those are.
        weight: [B] of the loss, 1 at most.
        spot: [B] places in the memory, for `Memory.update`.
    """

    graphs: GraphBatch
    place: Tensor
    reward: Tensor
    discount: Tensor
    successors: GraphBatch | None
    followed: Tensor
    weight: Tensor
    spot: Ints


class Memory:
    """The newest `capacity` transitions.

    A successor is a reference to an observation, not a copy of one, and arrays that observations
    share are held once.

    Args:
        capacity: transitions, >= 1.
        half: hold features in half precision (11 bits, a relative error of 0.0005), except where a
            feature is too great for it.
        priorities: of prioritised sampling; uniform without.

    Raises:
        ConfigError: if the capacity is not positive.
    """

    def __init__(
        self, capacity: int, *, half: bool = False, priorities: Priorities | None = None
    ) -> None:
        if capacity < 1:
            raise ConfigError(f"Memory needs a capacity >= 1, got {capacity}")
        self.capacity, self.half, self.priorities = capacity, half, priorities
        self._state: list[Observation] = []
        self._next: list[Observation | None] = []
        self._numbers = {name: np.zeros(capacity, kind) for name, kind in NUMBERS.items()}
        self._tree = None if priorities is None else SumTree(capacity)
        self._highest = 1.0
        self._spot = 0

    def __len__(self) -> int:
        return len(self._state)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays held, shared ones once."""
        held = {}
        for seen in self._observations():
            for array in seen:
                owner = array
                while isinstance(owner.base, np.ndarray):
                    owner = owner.base
                held[id(owner)] = owner.nbytes
        return sum(held.values()) + sum(part.nbytes for part in self._numbers.values())

    def extend(
        self,
        observations: Sequence[Observation],
        chosen: ArrayLike,
        *,
        decision: ArrayLike,
        reward: ArrayLike,
        successor: ArrayLike,
        discount: ArrayLike,
    ) -> None:
        """Append n transitions of one solve, over the oldest where it is full.

        Args:
            observations: of the solve's D decisions; those in no transition are not kept.
            chosen: [D] position of the candidate chosen.
            decision: [n] in 0 .. D-1, from where.
            reward: [n] sum of discounted rewards on the way.
            successor: [n] decision that follows, -1 for none.
            discount: [n] in [0, 1], what its value counts.

        Raises:
            ShapeError: if the sizes disagree.
            DataError: if a number is out of range or not finite.
        """
        place = np.asarray(chosen, np.int64)
        rows = np.asarray(decision, np.int64), np.asarray(successor, np.int64)
        numbers = np.asarray(reward, np.float64), np.asarray(discount, np.float64)
        _check(observations, place, rows, numbers)
        used = np.unique(np.concatenate(rows))
        kept = {int(d): self._compact(observations[d]) for d in used if d >= 0}
        spots = np.empty(len(rows[0]), np.int64)
        for i, (d, after) in enumerate(zip(*(row.tolist() for row in rows), strict=True)):
            spots[i] = self._add(kept[d], kept[after] if after >= 0 else None)
        self._numbers["action"][spots] = place[rows[0]]
        self._numbers["reward"][spots] = numbers[0]
        self._numbers["discount"][spots] = np.where(rows[1] >= 0, numbers[1], 0.0)
        if self._tree is not None:
            self._tree[spots] = np.full(len(spots), self._highest)

    def sample(
        self, batch: int, rng: np.random.Generator, features: FeatureSet, *, updates: int = 0
    ) -> TransitionBatch:
        """B transitions with replacement.

        Args:
            batch: B >= 1.
            rng: of the draws.
            features: of the network that will see them.
            updates: taken so far, for β.

        Raises:
            DataError: if it is empty.
        """
        if not self._state:
            raise DataError("an empty memory has nothing to sample; add transitions first")
        weight = np.ones(batch)
        if self._tree is None or self.priorities is None:
            index = rng.integers(len(self), size=batch)
        else:
            # One draw from every B-th of the mass: as likely, but of less variance.
            mass = (np.arange(batch) + rng.random(batch)) * (self._tree.total / batch)
            index = self._tree.find(mass)
            share = self._tree[index] / self._tree.total
            weight = (len(self) * share) ** -self.priorities.beta_at(updates)
            weight /= weight.max()
        return self._at(index, weight, features)

    def update(self, spot: Ints, error: NDArray[np.floating[Any]]) -> None:
        """Set priorities by errors δ [B] of transitions [B]; nothing to do where it is uniform.

        Raises:
            DataError: if an error is not finite.
        """
        if self._tree is None or self.priorities is None:
            return
        size = np.abs(np.asarray(error, np.float64))
        if not np.isfinite(size).all():
            raise DataError("an error of a transition is not finite; its priority has no meaning")
        value = np.maximum(size, self.priorities.smallest) ** self.priorities.alpha
        self._tree[spot] = value
        self._highest = max(self._highest, float(value.max()))

    def state_dict(self) -> dict[str, Any]:
        """Everything, as nested tensors and numbers."""
        observations = self._observations()
        number = {id(seen): i for i, seen in enumerate(observations)}
        following = [-1 if seen is None else number[id(seen)] for seen in self._next]
        saved: dict[str, Any] = {
            "capacity": self.capacity,
            "spot": self._spot,
            "observations": pack(observations),
            "state": torch.tensor([number[id(seen)] for seen in self._state], dtype=torch.int64),
            "next": torch.tensor(following, dtype=torch.int64),
            "highest": self._highest,
        }
        for name, part in self._numbers.items():
            saved[name] = torch.from_numpy(part[: len(self)].copy())
        if self._tree is not None:
            saved["priority"] = torch.from_numpy(self._tree[np.arange(len(self))])
        return saved

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            CheckpointError: if it is of another capacity or way of sampling, or damaged.
        """
        if saved["capacity"] != self.capacity or ("priority" in saved) != (self._tree is not None):
            raise CheckpointError(
                f"the memory saved has capacity {saved['capacity']} and "
                f"{'prioritised' if 'priority' in saved else 'uniform'} sampling, this one does not"
            )
        observations = unpack(saved["observations"])
        self._state = [observations[i] for i in saved["state"].tolist()]
        self._next = [observations[i] if i >= 0 else None for i in saved["next"].tolist()]
        self._spot, self._highest = int(saved["spot"]), float(saved["highest"])
        for name, part in self._numbers.items():
            part[: len(self)] = saved[name].numpy()
        if self._tree is not None:
            self._tree = SumTree(self.capacity)
            self._tree[np.arange(len(self))] = saved["priority"].numpy()

    def _add(self, state: Observation, following: Observation | None) -> int:
        spot = self._spot
        if spot == len(self._state):
            self._state.append(state)
            self._next.append(following)
        else:
            self._state[spot], self._next[spot] = state, following
        self._spot = (spot + 1) % self.capacity
        return spot

    def _compact(self, seen: Observation) -> Observation:
        if not self.half:
            return seen
        parts = {name: _narrow(getattr(seen, name)) for name in ("rows", "columns", "tree")}
        return seen._replace(**parts)

    def _observations(self) -> list[Observation]:
        """The distinct ones held."""
        held = {id(seen): seen for seen in [*self._state, *self._next] if seen is not None}
        return list(held.values())

    def _at(self, index: Ints, weight: Floats, features: FeatureSet) -> TransitionBatch:
        following = [self._next[i] for i in index.tolist()]
        followed = [i for i, seen in enumerate(following) if seen is not None]
        after = [seen for seen in following if seen is not None]
        numbers = {name: torch.from_numpy(part[index]) for name, part in self._numbers.items()}
        return TransitionBatch(
            collate([self._state[i] for i in index.tolist()], features),
            numbers["action"],
            numbers["reward"].float(),
            numbers["discount"].float(),
            collate(after, features) if after else None,
            torch.tensor(followed, dtype=torch.int64),
            torch.from_numpy(weight).float(),
            index,
        )


def _narrow(x: NDArray[np.float32]) -> NDArray[Any]:
    fits = x.size == 0 or float(np.abs(x).max()) <= LARGEST_HALF
    return x.astype(np.float16) if fits else x


def _check(
    observations: Sequence[Observation],
    place: Ints,
    rows: tuple[Ints, Ints],
    numbers: tuple[Floats, Floats],
) -> None:
    decision, successor = rows
    shapes = [part.shape for part in (place, decision, successor, *numbers)]
    n = len(decision) if decision.ndim else 0
    if shapes != [(len(observations),), (n,), (n,), (n,), (n,)]:
        raise ShapeError(
            f"expected chosen [{len(observations)}] and decision, successor, reward and discount "
            f"[{n}], got {shapes}"
        )
    if n == 0:
        return
    counts = np.array([len(seen.candidates) for seen in observations])
    if (
        decision.min() < 0
        or successor.min() < -1
        or max(decision.max(), successor.max()) >= len(observations)
    ):
        raise DataError(
            f"a decision or successor is not among the {len(observations)} of the solve"
        )
    if ((place < 0) | (place >= counts)).any():
        raise DataError("a chosen position is not among its observation's candidates")
    reward, discount = numbers
    if not np.isfinite(reward).all() or not ((discount >= 0) & (discount <= 1)).all():
        raise DataError("a reward is not finite, or a discount not in [0, 1]")
