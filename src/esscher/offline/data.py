"""Data sets of several behaviour policies, with who did what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError, DataError
from esscher.kit.rl.hdf5 import read_flat, read_minari, write_minari
from esscher.kit.rl.normalise import ActionMap
from esscher.kit.rl.transitions import Transitions, join_episodes
from esscher.kit.runs.seeds import Streams

__all__ = ["MixedDataset"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class MixedDataset:
    """Transitions with the box of their actions and the names of the policies that acted.

    Attributes:
        transitions: the steps; actions in the units of the environment.
        low: [m] least action.
        high: [m] greatest action.
        policies: name of every policy id.
        env: name of the environment they are of, "" where unknown.

    Raises:
        ConfigError: if the box is unbounded or empty.
        DataError: if an action is outside its box, or a policy has no name.
    """

    transitions: Transitions
    low: tuple[float, ...]
    high: tuple[float, ...]
    policies: tuple[str, ...] = ("data",)
    env: str = ""

    def __post_init__(self) -> None:
        import torch  # noqa: PLC0415 - only to look at the box

        m = self.transitions.action.shape[1]
        if len(self.low) != m or len(self.high) != m:
            raise DataError(
                f"action has {m} dimensions, low and high have {len(self.low)}, {len(self.high)}"
            )
        ActionMap(self.low, self.high).check(torch.from_numpy(self.transitions.action))
        highest = int(self.transitions.policy_id.max())
        if highest >= len(self.policies):
            raise DataError(f"policy_id {highest} has no name; there are {list(self.policies)}")

    def __len__(self) -> int:
        return len(self.transitions)

    @classmethod
    def mix(
        cls,
        parts: Sequence[tuple[MixedDataset, int | float]],
        *,
        by: Literal["transitions", "episodes"] = "transitions",
        seed: int = 0,
    ) -> MixedDataset:
        """Put data sets together, whole episodes of each, so that values and returns stay right.

        Args:
            parts: data sets with how much of each: a share in (0, 1.0] as a float, or a number
                as an int, of transitions or episodes.
            by: what is counted. By transitions, the last episode is cut where the number is
                reached, and marked truncated.
            seed: which episodes are taken.

        Raises:
            ConfigError: if there is no part, or an amount is not there.
            DataError: if the spaces differ; the field is named.
        """
        if not parts:
            raise ConfigError("expected at least one data set to mix, got none")
        _check_alike([part for part, _ in parts])
        names: list[str] = []
        episodes = []
        for number, (part, amount) in enumerate(parts):
            rng = Streams(seed).numpy("mix", number)
            taken = _taken(part, amount, by, rng)
            for name in part.policies:
                if name not in names:
                    names.append(name)
            ids = [names.index(name) for name in part.policies]
            episodes += [e._replace(policy_id=ids[e.policy_id]) for e in taken]
        first = parts[0][0]
        return replace(first, transitions=join_episodes(episodes), policies=tuple(names))

    def top(self, share: float) -> MixedDataset:
        """The episodes of the highest return, a share of them in (0, 1]."""
        returns, number = self.transitions.returns()
        keep = max(1, round(share * len(returns)))
        best = np.argsort(-returns, kind="stable")[:keep]
        mask = np.isin(number, best)
        return replace(self, transitions=self.transitions.take(mask))

    def provenance(self) -> list[dict[str, Any]]:
        """Per policy: transitions, share, episodes, mean return."""
        returns, number = self.transitions.returns()
        owner = np.zeros(len(returns), dtype=np.int64)
        owner[number] = self.transitions.policy_id
        rows = []
        for identity, name in enumerate(self.policies):
            steps = int((self.transitions.policy_id == identity).sum())
            own = returns[owner == identity]
            rows.append(
                {
                    "policy": name,
                    "transitions": steps,
                    "share": steps / len(self),
                    "episodes": len(own),
                    "mean_return": float(own.mean()) if len(own) else None,
                }
            )
        return rows

    def save(self, root: Path, dataset_id: str) -> Path:
        """Write Minari's layout; see `esscher.kit.rl.hdf5.write_minari`."""
        return write_minari(
            root,
            dataset_id,
            self.transitions,
            low=self.low,
            high=self.high,
            policies=self.policies,
            env_id=self.env or None,
        )

    @classmethod
    def load(cls, path: Path) -> MixedDataset:
        """Read a folder in Minari's layout, or a flat D4RL-style HDF5 or npz file.

        A flat file does not say its box of actions; it is taken as the smallest symmetric one with
        a bound of at least 1 that holds the data.

        Raises:
            DataError: if a file or field is missing or damaged.
            ConfigError: if actions are not a bounded box.
        """
        if not path.is_dir():
            transitions = read_flat(path)
            bound = max(1.0, float(np.abs(transitions.action).max()))
            m = transitions.action.shape[1]
            return cls(transitions, (-bound,) * m, (bound,) * m)
        transitions, metadata = read_minari(path)
        low, high = _box_of(metadata, path)
        spec = metadata.get("env_spec")
        env = metadata.get("env_id") or (_json(spec).get("id", "") if spec else "")
        count = int(transitions.policy_id.max()) + 1
        names = tuple(metadata.get("policies") or ()) or tuple(f"policy {i}" for i in range(count))
        return cls(transitions, low, high, names, str(env or ""))


def _taken(part: MixedDataset, amount: float, by: str, rng: np.random.Generator) -> list[Any]:
    episodes = list(part.transitions.episodes())
    total = len(part) if by == "transitions" else len(episodes)
    count = amount if isinstance(amount, int) else math.ceil(amount * total - 1e-9)
    if isinstance(amount, float) and not 0 < amount <= 1:
        raise ConfigError(f"a share must be in (0, 1], got {amount}")
    if not 1 <= count <= total:
        raise ConfigError(f"{count} {by} are wanted of a data set of {total}")
    order = rng.permutation(len(episodes))
    if by == "episodes":
        return [episodes[i] for i in order[:count]]
    taken = []
    for i in order:
        episode = episodes[i]
        if count < len(episode.action):
            episode = episode._replace(
                obs=episode.obs[: count + 1],
                action=episode.action[:count],
                reward=episode.reward[:count],
                terminated=False,
                truncated=True,
            )
        taken.append(episode)
        count -= len(episode.action)
        if count == 0:
            break
    return taken


def _check_alike(parts: Sequence[MixedDataset]) -> None:
    first = parts[0]
    for number, part in enumerate(parts[1:], 1):
        for name in ("low", "high"):
            if getattr(part, name) != getattr(first, name):
                raise DataError(
                    f"action {name} of data set {number} is {getattr(part, name)}, of the first "
                    f"{getattr(first, name)}; only data of one action space can be mixed"
                )
        widths = [p.transitions.obs.shape[1] for p in (first, part)]
        if widths[0] != widths[1]:
            raise DataError(
                f"obs of data set {number} has {widths[1]} dimensions, of the first {widths[0]}"
            )


def _box_of(metadata: dict[str, Any], path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    text = metadata.get("action_space")
    if text is None:
        raise DataError(f"the metadata of {path} has no field 'action_space'")
    space = _json(text)
    if space.get("type") != "Box":
        raise ConfigError(
            f"action_space of {path} is {space.get('type')}; these methods need continuous actions "
            "in a Box"
        )
    low, high = (tuple(map(float, np.ravel(space[key]))) for key in ("low", "high"))
    return low, high


def _json(value: Any) -> dict[str, Any]:
    import json  # noqa: PLC0415 - one small text

    found = json.loads(value) if isinstance(value, str) else value
    return found if isinstance(found, dict) else {}
