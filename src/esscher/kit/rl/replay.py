"""A ring of transitions in one block of memory, sampled by index."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from esscher.errors import CheckpointError, ConfigError, DataError, ShapeError

__all__ = ["Batch", "Replay"]


class Batch(NamedTuple):
    """B sampled transitions; columns are views of one block.

    Attributes:
        pair: [B, d + m] observation and action side by side, as critics take them.
        obs: [B, d].
        action: [B, m].
        next_obs: [B, d].
        reward: [B].
        continues: [B] 1 where the successor has a value, 0 where the task had ended.
        rows: [B] numbers of the replay's rows they are.
    """

    pair: Tensor
    obs: Tensor
    action: Tensor
    next_obs: Tensor
    reward: Tensor
    continues: Tensor
    rows: Tensor


class Replay:
    """The newest `capacity` transitions, each one row of a float32 block.

    A row holds observation, action, next observation, reward and whether the successor has a value,
    so that a batch is one gather. Truncation is not stored: a truncated successor has a value.

    Args:
        capacity: rows, >= 1.
        obs_dim: d.
        action_dim: m.

    Attributes:
        rows: [capacity, 2 d + m + 2]; those from `size` on are not defined.
        size: rows in use.
        place: where the next one is written.

    Raises:
        ConfigError: if a size is not positive.
    """

    def __init__(self, capacity: int, obs_dim: int, action_dim: int) -> None:
        if min(capacity, obs_dim, action_dim) < 1:
            raise ConfigError(
                f"Replay needs capacity, obs_dim and action_dim >= 1, got {capacity}, {obs_dim} "
                f"and {action_dim}"
            )
        self.obs_dim, self.action_dim = obs_dim, action_dim
        self.rows = torch.empty(capacity, 2 * obs_dim + action_dim + 2)
        self.size = self.place = 0

    @classmethod
    def of(
        cls, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor, terminated: Tensor
    ) -> Self:
        """A full replay of the rows given, in their order."""
        replay = cls(len(obs), obs.shape[1], action.shape[1])
        replay.add(obs, action, reward, next_obs, terminated)
        return replay

    def __len__(self) -> int:
        return self.size

    @property
    def capacity(self) -> int:
        """Most rows it can hold."""
        return len(self.rows)

    def add(
        self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor, terminated: Tensor
    ) -> None:
        """Append n rows, over the oldest where it is full; of more than capacity the last stay.

        Args:
            obs: [n, d].
            action: [n, m].
            reward: [n].
            next_obs: [n, d], before any reset.
            terminated: [n] bool; truncation is none.

        Raises:
            ShapeError: if they do not fit.
            DataError: if one is not finite.
        """
        d, m, n = self.obs_dim, self.action_dim, len(obs)
        shapes = [tuple(part.shape) for part in (obs, action, reward, next_obs, terminated)]
        if shapes != [(n, d), (n, m), (n,), (n, d), (n,)]:
            raise ShapeError(
                f"expected obs and next_obs [n, {d}], action [n, {m}], reward and terminated [n], "
                f"got {shapes}"
            )
        continues = 1 - terminated.to(torch.float32)
        columns = (obs, action, next_obs, reward[:, None], continues[:, None])
        block = torch.cat([column.to(torch.float32) for column in columns], 1)
        if not bool(block.isfinite().all()):
            raise DataError("a transition holds NaN or an infinity; look at the environment")
        kept = block[-self.capacity :]
        self.place = (self.place + n - len(kept)) % self.capacity
        first = min(len(kept), self.capacity - self.place)
        self.rows[self.place : self.place + first] = kept[:first]
        self.rows[: len(kept) - first] = kept[first:]
        self.place = (self.place + len(kept)) % self.capacity
        self.size = min(self.size + n, self.capacity)

    def sample(self, batch: int, rng: torch.Generator) -> Batch:
        """B rows, uniformly with replacement.

        Raises:
            DataError: if it is empty.
        """
        if self.size == 0:
            raise DataError("an empty replay has nothing to sample; add transitions first")
        return self.at(torch.randint(self.size, (batch,), generator=rng))

    def at(self, index: Tensor) -> Batch:
        """The rows of an index [B]."""
        rows = self.rows.index_select(0, index)
        d, m = self.obs_dim, self.action_dim
        return Batch(
            rows[:, : d + m],
            rows[:, :d],
            rows[:, d : d + m],
            rows[:, d + m : 2 * d + m],
            rows[:, -2],
            rows[:, -1],
            index,
        )

    def state_dict(self) -> dict[str, Any]:
        """The rows in use, and where the next one goes."""
        return {"rows": self.rows[: self.size], "place": self.place, "capacity": self.capacity}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            CheckpointError: if it is of another capacity or width.
        """
        rows = saved["rows"]
        if saved["capacity"] != self.capacity or rows.shape[1] != self.rows.shape[1]:
            raise CheckpointError(
                f"the replay saved holds {saved['capacity']} rows of {rows.shape[1]}, this one "
                f"{self.capacity} of {self.rows.shape[1]}"
            )
        self.size, self.place = len(rows), int(saved["place"])
        self.rows[: self.size] = rows
