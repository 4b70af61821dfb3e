"""Minari reads what we write, and we read what Minari writes, bit for bit."""

import warnings

import numpy as np
import pytest

from esscher.kit.rl.hdf5 import read_minari, write_minari
from tests.kit.rl.data import transitions

pytest.importorskip("h5py")
gym = pytest.importorskip("gymnasium")
minari = pytest.importorskip("minari")
FIELDS = ("obs", "action", "reward", "next_obs", "terminated", "truncated")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def flags(episode, name):
    found = np.zeros(len(episode.action), dtype=bool)
    found[-1] = getattr(episode, name)
    return found


def test_minari_loads_our_files(root):
    rows = transitions(lengths=(3, 1, 4, 6), d=3, m=2)
    write_minari(root, "toy/mixed-v0", rows, low=[-1, -1], high=[1, 1])
    found = minari.load_dataset("toy/mixed-v0")
    assert (found.total_episodes, found.total_steps) == (4, 14)
    assert found.action_space == gym.spaces.Box(-1, 1, (2,))
    for ours, theirs in zip(rows.episodes(), found.iterate_episodes(), strict=True):
        assert np.array_equal(ours.obs, theirs.observations)
        assert np.array_equal(ours.action, theirs.actions)
        assert np.array_equal(ours.reward, theirs.rewards)
        assert np.array_equal(flags(ours, "terminated"), theirs.terminations)
        assert np.array_equal(flags(ours, "truncated"), theirs.truncations)


def test_we_load_minaris_files(root):
    from minari.data_collector import EpisodeBuffer

    rows = transitions(lengths=(3, 1, 4, 6), d=3, m=2)
    buffer = [
        EpisodeBuffer(
            id=i,
            observations=e.obs,
            actions=e.action,
            rewards=e.reward.astype(np.float64),
            terminations=flags(e, "terminated"),
            truncations=flags(e, "truncated"),
            infos={},
        )
        for i, e in enumerate(rows.episodes())
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            "toy/theirs-v0",
            buffer=buffer,
            observation_space=gym.spaces.Box(-np.inf, np.inf, (3,)),
            action_space=gym.spaces.Box(-1, 1, (2,)),
        )
    again, _ = read_minari(root / "toy" / "theirs-v0")
    for name in FIELDS:
        assert np.array_equal(getattr(rows, name), getattr(again, name)), name
