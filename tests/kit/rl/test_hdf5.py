"""Data sets in files come back bit for bit, and bad ones are named."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from esscher.errors import ConfigError, DataError
from esscher.kit.rl.hdf5 import from_flat, read_flat, read_minari, write_minari
from tests.kit.rl.data import transitions

BOX = {"low": [-1.0], "high": [1.0]}


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


def flat(rows):
    return {
        "observations": rows.obs,
        "actions": rows.action,
        "rewards": rows.reward,
        "terminals": rows.terminated,
        "timeouts": rows.truncated,
        "next_observations": rows.next_obs,
    }


def same(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(asdict(a).values(), asdict(b).values(), strict=True)
    )


def test_minari_files_come_back(tmp_path, h5py):
    rows = transitions(lengths=(3, 1, 4) * 5, d=3)
    folder = write_minari(
        tmp_path, "toy/mixed-v0", rows, **BOX, policies=("a", "b", "c"), env_id="Toy-v0"
    )
    again, metadata = read_minari(folder)
    assert same(rows, again)
    assert metadata["policies"] == ["a", "b", "c"]
    assert metadata["total_episodes"] == 15
    assert json.loads(metadata["action_space"])["low"] == [-1.0]
    assert (tmp_path / "toy" / "namespace_metadata.json").exists()
    with h5py.File(folder / "data" / "main_data.hdf5") as file:
        group = file["episode_0"]
        assert group["observations"].shape == (4, 3)
        assert group["rewards"].dtype == np.float64
        assert group["terminations"].dtype == bool


@pytest.mark.parametrize("name", ["mixed", "toy/mixed-v", "-v0", "../up-v0"])
def test_ids_that_are_none_are_refused(tmp_path, h5py, name):
    with pytest.raises(ConfigError, match="looks like"):
        write_minari(tmp_path, name, transitions(), **BOX)


def test_nothing_is_written_over(tmp_path, h5py):
    write_minari(tmp_path, "toy/mixed-v0", transitions(), **BOX)
    with pytest.raises(ConfigError, match="exists"):
        write_minari(tmp_path, "toy/mixed-v0", transitions(), **BOX)


def test_damaged_files_are_named(tmp_path, h5py):
    folder = write_minari(tmp_path, "toy/mixed-v0", transitions(), **BOX)
    path = folder / "data" / "main_data.hdf5"
    with h5py.File(path, "a") as file:
        file["episode_0/terminations"][0] = True
    with pytest.raises(DataError, match="episode_0/terminations is set before the last step"):
        read_minari(folder)
    with h5py.File(path, "a") as file:
        del file["episode_0/truncations"]
    with pytest.raises(DataError, match="episode_0 has no array 'truncations'"):
        read_minari(folder)
    path.write_text("no")
    with pytest.raises(DataError, match="cannot read"):
        read_minari(folder)
    with pytest.raises(DataError, match="cannot read"):
        read_minari(tmp_path / "gone")


def test_flat_columns_with_successors_come_back(tmp_path, h5py):
    rows = transitions()
    kept = replace(rows, policy_id=np.zeros(8))
    assert same(from_flat(flat(rows)), kept)
    np.savez(tmp_path / "a.npz", **flat(rows))
    assert same(read_flat(tmp_path / "a.npz"), kept)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for name, column in flat(rows).items():
            file.create_dataset(name, data=column)
        file.create_group("metadata")
    assert same(read_flat(tmp_path / "a.hdf5"), kept)


def test_without_successors_steps_that_lack_one_are_dropped():
    rows = transitions()
    columns = flat(rows)
    del columns["next_observations"]
    found = from_flat(columns)
    # Episode 1 is one truncated step, whose successor is unknown: it goes.
    assert found.episode_id.tolist() == [0, 0, 0, 2, 2, 2, 2]
    inner = ~found.ends()
    expected = rows.next_obs[np.array([0, 1, 2, 4, 5, 6, 7])]
    assert np.array_equal(found.next_obs[inner], expected[inner])
    assert found.terminated.tolist() == [False, False, True, False, False, False, True]
    # Cut off in the middle of an episode: the last step goes, the one before it is truncated.
    open_ended = {name: column[:7] for name, column in columns.items()}
    found = from_flat(open_ended)
    assert found.episode_id.tolist() == [0, 0, 0, 2, 2]
    assert found.truncated.tolist() == [False, False, False, False, True]


@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "terminals", "timeouts"])
def test_missing_columns_are_named(name):
    columns = flat(transitions())
    del columns[name]
    with pytest.raises(DataError, match=f"column '{name}' is missing"):
        from_flat(columns)


def test_a_missing_time_limit_comes_with_advice():
    columns = flat(transitions())
    del columns["timeouts"]
    with pytest.raises(DataError, match="cannot be told from an end of the task"):
        from_flat(columns)
