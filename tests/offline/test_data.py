"""Mixed data sets: provenance, mixing, files, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from esscher.errors import ConfigError, DataError
from esscher.offline import MixedDataset
from tests.kit.rl.data import transitions


def dataset(name="a", episodes=6, seed=0, **changes):
    rows = transitions(lengths=(3, 1, 4, 2, 5, 3)[:episodes], seed=seed)
    rows = replace(rows, policy_id=np.zeros(len(rows)))
    return MixedDataset(rows, (-1.0,), (1.0,), (name,), **changes)


def test_a_mix_has_the_shares_it_was_asked_for_and_remembers_who_did_what():
    first, second = dataset("a"), dataset("b", seed=1)
    mixed = MixedDataset.mix([(first, 12), (second, 0.5)], seed=3)
    told = {row["policy"]: row for row in mixed.provenance()}
    assert (told["a"]["transitions"], told["b"]["transitions"]) == (12, 9)
    assert told["a"]["share"] == pytest.approx(12 / 21)
    rows = mixed.transitions
    for identity, part in ((0, first), (1, second)):
        own = rows.obs[rows.policy_id == identity]
        known = {tuple(row) for row in part.transitions.obs.tolist()}
        assert {tuple(row) for row in own.tolist()} <= known
    # Episodes are whole or cut at their end, and cut ones are truncated.
    for episode in rows.episodes():
        assert episode.terminated != episode.truncated


def test_whole_episodes_are_counted_by_episodes():
    mixed = MixedDataset.mix([(dataset("a"), 2), (dataset("b"), 1.0)], by="episodes")
    assert [row["episodes"] for row in mixed.provenance()] == [2, 6]
    whole = MixedDataset.mix([(dataset("a"), 1.0)], by="episodes", seed=5)
    given, got = (np.sort(d.transitions.returns()[0]) for d in (dataset("a"), whole))
    assert got == pytest.approx(given)


def test_policies_of_one_name_are_one():
    mixed = MixedDataset.mix([(dataset("a"), 1.0), (dataset("a", seed=1), 1.0)])
    assert mixed.policies == ("a",)
    assert len(mixed) == 36


def test_the_same_seed_takes_the_same_episodes():
    one, two, other = (
        MixedDataset.mix([(dataset("a"), 2)], by="episodes", seed=s).transitions.obs
        for s in (1, 1, 4)
    )
    assert np.array_equal(one, two)
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_the_best_episodes_are_kept():
    data = dataset()
    returns = data.transitions.returns()[0]
    best = data.top(0.34)
    assert sorted(best.transitions.returns()[0]) == pytest.approx(sorted(returns)[-2:])
    assert len(data.top(0.01).transitions.returns()[0]) == 1


def test_a_mix_comes_back_from_its_file(tmp_path):
    pytest.importorskip("h5py")
    mixed = MixedDataset.mix([(dataset("a", env="Toy-v0"), 1.0), (dataset("b", seed=1), 1.0)])
    again = MixedDataset.load(mixed.save(tmp_path, "toy/mixed-v0"))
    assert again.policies == ("a", "b")
    assert (again.low, again.high, again.env) == ((-1.0,), (1.0,), "Toy-v0")
    assert np.array_equal(again.transitions.obs, mixed.transitions.obs)
    assert np.array_equal(again.transitions.policy_id, mixed.transitions.policy_id)


def test_a_flat_file_is_read(tmp_path):
    rows = transitions()
    names = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
    columns = (rows.obs, 3 * rows.action, rows.reward, rows.terminated, rows.truncated,
               rows.next_obs)  # fmt: skip
    np.savez(tmp_path / "flat.npz", **dict(zip(names, columns, strict=True)))
    found = MixedDataset.load(tmp_path / "flat.npz")
    assert found.high == (pytest.approx(float(np.abs(3 * rows.action).max())),)
    np.savez(tmp_path / "bad.npz", **dict(zip(names[:4], columns[:4], strict=True)))
    with pytest.raises(DataError, match="'timeouts' is missing"):
        MixedDataset.load(tmp_path / "bad.npz")
    with pytest.raises(DataError, match="cannot read"):
        MixedDataset.load(tmp_path / "gone.npz")


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([], ConfigError, "at least one data set"),
        ([(dataset(), 0.0)], ConfigError, r"a share must be in \(0, 1\]"),
        ([(dataset(), 99)], ConfigError, "99 transitions are wanted of a data set of 18"),
        ([(dataset(), 0)], ConfigError, "0 transitions are wanted"),
        (
            [(dataset(), 1.0), (replace(dataset(), low=(-2.0,)), 1.0)],
            DataError,
            "action low of data set 1",
        ),
        (
            [
                (dataset(), 1.0),
                (MixedDataset(transitions(d=3), (-1.0,), (1.0,), ("a", "b", "c")), 1.0),
            ],
            DataError,
            "obs of data set 1 has 3 dimensions",
        ),
    ],
)
def test_mixes_that_cannot_be_are_refused(parts, error, message):
    with pytest.raises(error, match=message):
        MixedDataset.mix(parts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": (-0.01,), "high": (0.01,)}, "rows outside its box"),
        ({"low": (-1.0, -1.0)}, "action has 1 dimensions"),
        ({"low": (-np.inf,)}, "unbounded"),
        ({"policies": ()}, "policy_id 0 has no name"),
    ],
)
def test_data_sets_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises((DataError, ConfigError), match=message):
        replace(dataset(), **changes)


def test_no_transitions_are_no_data():
    rows = dataset().transitions
    with pytest.raises(DataError, match="reward is empty"):
        rows.take(np.zeros(len(rows), dtype=bool))


def test_a_file_of_discrete_actions_is_refused_by_its_field(tmp_path):
    pytest.importorskip("h5py")
    path = dataset().save(tmp_path, "x-v0")
    metadata = path / "data" / "metadata.json"
    told = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(told | {"action_space": '{"type": "Discrete", "n": 3}'}))
    with pytest.raises(ConfigError, match=r"action_space of .* is Discrete"):
        MixedDataset.load(path)
