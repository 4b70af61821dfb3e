"""Data sets in files: Minari's HDF5 layout, and flat D4RL-style arrays. No jax, no network.

Layout of a data set `namespace/name-v0`: `<root>/namespace/name-v0/data/main_data.hdf5` with one
group `episode_<i>` each, `metadata.json` beside it. Observations have one row more than actions.
Which policy acted is the attribute `policy_id` of a group, which Minari passes over.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esscher.errors import ConfigError, DataError
from esscher.kit.require import require
from esscher.kit.rl.transitions import Episode, Transitions, stack_episodes
from esscher.kit.runs.files import read_json, write_json

__all__ = ["from_flat", "read_flat", "read_minari", "write_minari"]

EXTRA = "rl"
_FILE = "main_data.hdf5"
_FLAT = ("observations", "actions", "rewards", "terminals", "timeouts")


def write_minari(
    root: Path,
    dataset_id: str,
    transitions: Transitions,
    *,
    low: ArrayLike,
    high: ArrayLike,
    policies: Sequence[str] = (),
    env_id: str | None = None,
) -> Path:
    """Write a data set that `minari.load_dataset` finds with MINARI_DATASETS_PATH=root.

    Args:
        root: parent of all data sets.
        dataset_id: such as "pendulum/mixed-v0": namespaces, a name, a version.
        transitions: whole episodes, in order.
        low: [m] least action.
        high: [m] greatest action.
        policies: names of the policy ids.
        env_id: of the environment, as gymnasium names it.

    Returns:
        The folder of the data set.

    Raises:
        ConfigError: if the id is not of that form, or there is such a data set already.
        DataError: if the rows are not whole episodes in order.
        MissingExtra: if h5py is not installed.
    """
    h5py = require("h5py", EXTRA)
    folder = root / dataset_id
    name, dash, version = dataset_id.rpartition("-v")
    if not name or not dash or not version.isdecimal() or ".." in dataset_id:
        raise ConfigError(f"a data set id looks like pendulum/mixed-v0, got {dataset_id!r}")
    if (folder / "data").exists():
        raise ConfigError(f"{folder} exists; choose another id or remove it")
    episodes = list(transitions.episodes())
    # Under another name until it is whole: a reader never sees half a data set.
    data = folder / f".data.{os.getpid()}.part"
    data.mkdir(parents=True)
    try:
        with h5py.File(data / _FILE, "w") as file:
            for number, episode in enumerate(episodes):
                _write_episode(file.create_group(f"episode_{number}"), number, episode)
        own = {"policies": list(policies)} | ({} if env_id is None else {"env_id": env_id})
        size = round((data / _FILE).stat().st_size / 1e6, 3)
        metadata = _metadata(dataset_id, transitions, low, high)
        write_json(
            data / "metadata.json",
            metadata | {"total_episodes": len(episodes), "dataset_size": size} | own,
        )
        data.rename(folder / "data")
    except BaseException:
        shutil.rmtree(data, ignore_errors=True)
        raise
    namespace = folder.parent
    while namespace != root:
        write_json(namespace / "namespace_metadata.json", {})
        namespace = namespace.parent
    return folder


def read_minari(folder: Path) -> tuple[Transitions, dict[str, Any]]:
    """Transitions and metadata of a data set in Minari's layout, whoever wrote it.

    Args:
        folder: of the data set, the one that holds `data/`.

    Raises:
        DataError: if a file or field is missing or not what the layout says; it is named.
        MissingExtra: if h5py is not installed.
    """
    h5py = require("h5py", EXTRA)
    path = folder / "data" / _FILE
    metadata = read_json(folder / "data" / "metadata.json")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    with file:
        names = [name for name in file if name.startswith("episode_")]
        names.sort(key=lambda name: int(name.removeprefix("episode_")))
        if not names:
            raise DataError(f"{path} holds no episodes")
        lengths = [len(_array(file[name], "actions", f"{path}:{name}")) for name in names]
        episodes = (_read_episode(file[name], f"{path}:{name}") for name in names)
        return stack_episodes(episodes, lengths), metadata


def from_flat(columns: Mapping[str, ArrayLike], *, policy_id: int = 0) -> Transitions:
    """Transitions from D4RL-style columns, cut where `terminals` or `timeouts` are set.

    Without `next_observations` the successor of an episode's last step is not in the data: where it
    terminated its value is not needed and it repeats its own observation; otherwise that step is
    dropped.

    Args:
        columns: observations, actions, rewards, terminals, timeouts and perhaps next_observations.
        policy_id: written into the transitions.

    Raises:
        DataError: if a column is missing; it is named.
    """
    for name in _FLAT:
        if name not in columns:
            known = ", ".join(sorted(columns))
            advice = (
                "; without it a time limit cannot be told from an end of the task: set it from the "
                "known horizon, or to zeros where episodes only end by terminals"
                if name == "timeouts"
                else ""
            )
            raise DataError(f"column {name!r} is missing; there are: {known}{advice}")
    obs, action, reward, terminated, truncated = (np.asarray(columns[name]) for name in _FLAT)
    terminated, truncated = terminated.ravel().astype(bool), truncated.ravel().astype(bool)
    ends = terminated | truncated
    number = np.concatenate([[0], np.cumsum(ends)[:-1]]) if len(ends) else ends.astype(np.int64)
    last = np.ones(len(ends), dtype=bool)
    last[:-1] = ends[:-1]
    keep = np.ones(len(ends), dtype=bool)
    if "next_observations" in columns:
        following = np.asarray(columns["next_observations"])
    else:
        following = np.concatenate([obs[1:], obs[-1:]])
        following[last] = obs[last]
        keep = ~last | terminated
        # The step before a dropped one is now the last: it was cut off there.
        dropped = np.flatnonzero(~keep)
        truncated = truncated.copy()
        before = dropped[dropped > 0] - 1
        truncated[before[~ends[before]]] = True
    found = Transitions(
        obs,
        action,
        reward.ravel(),
        following,
        terminated,
        truncated,
        np.full(len(ends), policy_id, dtype=np.int32),
        number,
    )
    return found if bool(keep.all()) else found.take(keep)


def read_flat(path: Path, *, policy_id: int = 0) -> Transitions:
    """Transitions of a D4RL-style HDF5 or npz file; see `from_flat`.

    Pickles are not read: they run code.

    Raises:
        DataError: if the file cannot be read or a column is missing.
        MissingExtra: if h5py is needed and not installed.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return from_flat(dict(archive), policy_id=policy_id)
        with require("h5py", EXTRA).File(path, "r") as file:
            columns = {name: file[name][()] for name in file if hasattr(file[name], "shape")}
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read {path}: {error}") from error
    return from_flat(columns, policy_id=policy_id)


def _metadata(
    dataset_id: str, transitions: Transitions, low: ArrayLike, high: ArrayLike
) -> dict[str, Any]:
    d, m = transitions.obs.shape[1], transitions.action.shape[1]
    bounds = (np.broadcast_to(np.asarray(b, dtype=np.float32), (m,)) for b in (low, high))
    return {
        "total_steps": len(transitions),
        "data_format": "hdf5",
        "observation_space": _box([-np.inf] * d, [np.inf] * d),
        "action_space": _box(*(bound.tolist() for bound in bounds)),
        "dataset_id": dataset_id,
        "minari_version": "0.5.0",
    }


def _box(low: Sequence[float], high: Sequence[float]) -> str:
    # Infinity is what Minari's reader takes, though JSON has no such number.
    space = {"type": "Box", "dtype": "float32", "shape": [len(low)], "low": low, "high": high}
    return json.dumps(space)


def _write_episode(group: Any, number: int, episode: Episode) -> None:
    steps = len(episode.action)
    flags = {name: np.zeros(steps, dtype=bool) for name in ("terminations", "truncations")}
    flags["terminations"][-1], flags["truncations"][-1] = episode.terminated, episode.truncated
    group.attrs.update({"id": number, "total_steps": steps, "policy_id": episode.policy_id})
    group.create_dataset("observations", data=episode.obs)
    group.create_dataset("actions", data=episode.action)
    group.create_dataset("rewards", data=episode.reward.astype(np.float64))
    for name, flag in flags.items():
        group.create_dataset(name, data=flag)
    group.create_group("infos")


def _read_episode(group: Any, where: str) -> Episode:
    names = ("observations", "actions", "rewards", "terminations", "truncations")
    columns: dict[str, NDArray[Any]] = {name: _array(group, name, where)[()] for name in names}
    steps = len(columns["actions"])
    expected = {name: steps + (name == "observations") for name in names}
    for name, rows in expected.items():
        if len(columns[name]) != rows or rows == 0:
            raise DataError(f"{where}/{name} has {len(columns[name])} rows, expected {rows}")
    for name in names[3:]:
        if bool(columns[name][:-1].any()):
            raise DataError(f"{where}/{name} is set before the last step")
    return Episode(
        columns["observations"].astype(np.float32),
        columns["actions"].astype(np.float32),
        columns["rewards"].astype(np.float32),
        bool(columns["terminations"][-1]),
        bool(columns["truncations"][-1]),
        int(group.attrs.get("policy_id", 0)),
    )


def _array(group: Any, name: str, where: str) -> Any:
    if name not in group or not hasattr(group[name], "shape"):
        raise DataError(
            f"{where} has no array {name!r}; only vector observations and actions are read"
        )
    return group[name]
