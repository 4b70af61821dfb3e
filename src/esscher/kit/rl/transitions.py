"""Transitions as typed columns, and the episodes they come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.errors import DataError, ShapeError

__all__ = ["Episode", "Transitions", "join_episodes", "stack_episodes"]

Floats = NDArray[np.float32]
_DTYPES = {
    "obs": np.float32,
    "action": np.float32,
    "reward": np.float32,
    "next_obs": np.float32,
    "terminated": np.bool_,
    "truncated": np.bool_,
    "policy_id": np.int32,
    "episode_id": np.int64,
}
_MATRICES = ("obs", "action", "next_obs")


class Episode(NamedTuple):
    """One stretch of experience with one observation more than there are actions.

    Attributes:
        obs: [T + 1, d] float32.
        action: [T, m] float32.
        reward: [T] float32.
        terminated: whether the last step ended the task itself; its successor has no value.
        truncated: whether it was cut off, by a time limit say; its successor has a value.
        policy_id: which policy acted, >= 0.
    """

    obs: Floats
    action: Floats
    reward: Floats
    terminated: bool
    truncated: bool
    policy_id: int = 0


@dataclass(frozen=True)
class Transitions:
    """N steps (s, a, r, s') as columns. Steps of an episode are consecutive, in order.

    Columns are converted to their dtype; nothing else is repaired.

    Attributes:
        obs: [N, d] float32.
        action: [N, m] float32, in the units of the environment.
        reward: [N] float32.
        next_obs: [N, d] float32; of an episode's last step the observation before any reset.
        terminated: [N] bool: the task ended, s' has no value.
        truncated: [N] bool: the episode was cut off, s' has a value.
        policy_id: [N] int32: which policy acted, >= 0.
        episode_id: [N] int64: which episode the step is of.

    Raises:
        ShapeError: if a column has the wrong shape or length; the field is named.
        DataError: if a column holds NaN or an infinity, or is not numeric; the field is named.
    """

    obs: Floats
    action: Floats
    reward: Floats
    next_obs: Floats
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    policy_id: NDArray[np.int32]
    episode_id: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            object.__setattr__(self, name, _column(name, getattr(self, name), dtype))
        n = len(self.reward)
        if n == 0:
            raise DataError("reward is empty; a data set needs at least one transition")
        for name in _DTYPES:
            value = getattr(self, name)
            if len(value) != n:
                raise ShapeError(f"{name} has {len(value)} rows, reward has {n}")
        if self.next_obs.shape != self.obs.shape:
            raise ShapeError(f"next_obs is {self.next_obs.shape}, obs is {self.obs.shape}")
        if int(self.policy_id.min()) < 0:
            raise DataError(f"policy_id must be >= 0, got {int(self.policy_id.min())}")

    def __len__(self) -> int:
        return len(self.reward)

    def take(self, index: NDArray[Any]) -> Transitions:
        """The rows of an index or a mask, in its order."""
        return Transitions(*(getattr(self, field.name)[index] for field in fields(self)))

    def ends(self) -> NDArray[np.bool_]:
        """[N] whether a step is the last of its episode in this data set."""
        last = np.ones(len(self), dtype=bool)
        last[:-1] = self.episode_id[1:] != self.episode_id[:-1]
        return last | self.terminated | self.truncated

    def next_action(self) -> tuple[Floats, NDArray[np.bool_]]:
        """[N, m] the action taken in s', and [N] whether there is one.

        The last step of an episode has none: its row repeats its own action and is False in the
        mask, so that no episode runs into the next.
        """
        known = ~self.ends()
        following = np.where(known, np.arange(len(self)) + 1, np.arange(len(self)))
        return self.action[following], known

    def episodes(self) -> Iterator[Episode]:
        """The episodes, in order.

        Raises:
            DataError: if a step's next_obs is not the obs of the step after it.
        """
        bounds = np.flatnonzero(self.ends()) + 1
        start = 0
        for stop in bounds.tolist():
            inner = self.next_obs[start : stop - 1]
            if not np.array_equal(inner, self.obs[start + 1 : stop]):
                raise DataError(
                    f"next_obs of rows {start} to {stop - 1} is not the obs of the rows after "
                    "them: these are not the steps of one episode in order"
                )
            yield Episode(
                np.concatenate([self.obs[start:stop], self.next_obs[stop - 1 : stop]]),
                self.action[start:stop],
                self.reward[start:stop],
                bool(self.terminated[stop - 1]),
                bool(self.truncated[stop - 1]),
                int(self.policy_id[start]),
            )
            start = stop

    def returns(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Undiscounted return of every episode, and [N] the number of each step's episode."""
        number = np.concatenate([[0], np.cumsum(self.ends())[:-1]]).astype(np.int64)
        sums = np.bincount(number, weights=self.reward.astype(np.float64))
        return sums.astype(np.float64), number


def join_episodes(episodes: Sequence[Episode]) -> Transitions:
    """The steps of episodes, in order; episodes are numbered from 0.

    Raises:
        DataError: if there is no episode, or one is not what `Episode` says; it is numbered.
    """
    if not episodes:
        raise DataError("expected at least one episode, got none")
    for number, episode in enumerate(episodes):
        steps = len(episode.action)
        if steps == 0 or len(episode.obs) != steps + 1 or len(episode.reward) != steps:
            raise ShapeError(
                f"episode {number} has {len(episode.obs)} obs, {steps} action and "
                f"{len(episode.reward)} reward rows; expected T + 1, T and T with T >= 1"
            )
    return stack_episodes(episodes, [len(episode.action) for episode in episodes])


def stack_episodes(episodes: Iterable[Episode], lengths: Sequence[int]) -> Transitions:
    """As `join_episodes`, of episodes that come one at a time: only the columns are held.

    Args:
        episodes: at least one.
        lengths: T of each.

    Raises:
        ShapeError: if widths differ between episodes, or a length is another.
    """
    total, stop = sum(lengths), 0
    columns: dict[str, NDArray[Any]] = {}
    for number, (episode, steps) in enumerate(zip(episodes, lengths, strict=True)):
        parts = {
            "obs": episode.obs[:-1],
            "action": episode.action,
            "reward": episode.reward,
            "next_obs": episode.obs[1:],
        }
        start, stop = stop, stop + steps
        if not columns:
            for name, dtype in _DTYPES.items():
                width = np.shape(parts[name])[1:] if name in parts else ()
                columns[name] = np.zeros((total, *width), dtype=dtype)
        for name, part in parts.items():
            expected = (steps, *columns[name].shape[1:])
            if np.shape(part) != expected:
                raise ShapeError(
                    f"{name} differs in shape between episodes: {np.shape(part)} in episode "
                    f"{number}, expected {expected}"
                )
            columns[name][start:stop] = part
        columns["terminated"][stop - 1] = episode.terminated
        columns["truncated"][stop - 1] = episode.truncated
        columns["policy_id"][start:stop] = episode.policy_id
        columns["episode_id"][start:stop] = number
    return Transitions(**columns)


def _column(name: str, value: object, dtype: Any) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} must be numbers, got dtype {array.dtype}")
    if array.ndim != (2 if name in _MATRICES else 1):
        expected = "[N, width]" if name in _MATRICES else "[N]"
        raise ShapeError(f"{name} must be {expected}, got {list(array.shape)}")
    # Least and greatest tell without a mask as long as the column.
    if array.dtype.kind == "f" and array.size and not np.isfinite([array.min(), array.max()]).all():
        bad = ~np.isfinite(array)
        row = int(np.argwhere(bad)[0][0])
        raise DataError(f"{name} has {int(bad.sum())} NaN or infinite values, first in row {row}")
    if dtype is np.bool_ and array.dtype.kind != "b" and not np.isin(array, (0, 1)).all():
        raise DataError(f"{name} must be true or false, got other numbers")
    return np.ascontiguousarray(array, dtype=dtype)
