"""Behaviour policies and their logs."""

import numpy as np
import pytest

from esscher.errors import ConfigError, DataError
from esscher.kit.rl.td3 import TD3Config
from esscher.offline import behaviour
from esscher.offline.behaviour import load_levels, noisy, save_levels, train_behaviour
from esscher.offline.collect import collect, log_level
from esscher.offline.options import CollectOptions
from esscher.offline.problems.point_mass import PointMass

SMALL = TD3Config(width=8, batch=16)
pytest.importorskip("gymnasium")


@pytest.fixture(autouse=True, scope="module")
def brief():
    """Fewer steps without training, shorter looks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behaviour, "LEAST_WARMUP", 50)
        patch.setattr(behaviour, "EPISODES", 1)
        patch.setattr(behaviour, "LOOKS", 5)
        yield


def point_mass(n=1, seed=0):
    return PointMass(n, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def levels():
    seen = {}
    found = train_behaviour(
        point_mass(), 200, seed=0, config=SMALL, on_step=lambda k, told: seen.update({k: told})
    )
    return found, seen


def test_the_expert_is_the_best_look_and_medium_the_first_half_way(levels):
    found, seen = levels
    returns = [told["return"] for told in seen.values() if told]
    assert len(seen) == 200
    assert len(returns) == behaviour.LOOKS
    assert found.returns["expert"] == max(returns)
    half = (found.returns["random"] + max(returns)) / 2
    assert found.returns["medium"] == next(r for r in returns if r >= half)


def test_policies_come_back_from_their_folder(levels, tmp_path):
    found, _ = levels
    save_levels(found, tmp_path, "point mass")
    again = load_levels(tmp_path, "point mass")
    obs = point_mass(5).reset()
    assert again.returns == found.returns
    for name in ("medium", "expert"):
        assert np.array_equal(again.policies[name](obs), found.policies[name](obs))
    with pytest.raises(ConfigError, match="are of 'point mass', not of env 'Hopper-v5'"):
        load_levels(tmp_path, "Hopper-v5")
    with pytest.raises(DataError, match="cannot read"):
        load_levels(tmp_path / "gone", "point mass")


def test_noise_stays_in_the_box_and_has_its_width():
    env = point_mass(2000)
    rng = np.random.default_rng(0)
    still = noisy(lambda obs: np.zeros((len(obs), 2), np.float32), env, 0.1, rng)(env.reset())
    assert still.std() == pytest.approx(0.1, rel=0.05)
    edge = noisy(lambda obs: np.ones((len(obs), 2), np.float32), env, 0.5, rng)(env.reset())
    assert edge.max() == 1
    assert (edge == 1).mean() == pytest.approx(0.5, abs=0.05)


def test_so_many_transitions_are_logged_in_whole_episodes():
    env = point_mass(3)
    policy = noisy(lambda obs: np.zeros((len(obs), 2), np.float32), env, 0.5,
                   np.random.default_rng(0))  # fmt: skip
    rows = log_level(env, policy, 1, transitions=400)
    assert len(rows) >= 400
    assert (rows.terminated | rows.truncated)[-1]
    lengths = np.bincount(rows.returns()[1])
    assert len(rows) - 400 < 6 * lengths.max()
    assert len(rows.returns()[0]) % 3 == 0


def test_a_stopped_collection_keeps_its_policies_and_logs_again_without_training(tmp_path):
    quick = {"env": "Pendulum-v1", "episodes": 2, "train_steps": 100, "width": 8, "batch": 16}

    def stop(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(CollectOptions(**quick), tmp_path / "first", say=stop)
    told = []
    options = CollectOptions(**quick | {"policies": tmp_path / "first"})
    again = collect(
        options, tmp_path / "second", on_step=lambda done, seen: told.append(done), say=told.append
    )
    assert [text.split(":")[0] for text in told] == ["random", "medium", "expert"]
    whole = collect(CollectOptions(**quick), tmp_path / "third")
    assert np.array_equal(again.transitions.action, whole.transitions.action)
    assert [row["episodes"] for row in again.provenance()] == [2, 2, 2]


def test_random_logs_need_no_training(tmp_path):
    options = CollectOptions(env="Pendulum-v1", levels=("random",), transitions=500)
    found = collect(options, tmp_path / "p")
    assert len(found) == 2000
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transitions": 0}, "transitions must be >= 1"),
        ({"episodes": 0}, "episodes must be >= 1"),
        ({"noise": -0.1}, "noise must be >= 0"),
        ({"noise": float("nan")}, "noise must be >= 0"),
        ({"env": "point-mass", "transitions": 10}, "drop --transitions"),
        ({"levels": ()}, "levels are"),
        ({"train_steps": 80}, "train_steps >= 100"),
    ],
)
def test_what_cannot_be_collected_is_named(changes, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        collect(CollectOptions(**changes), tmp_path)
