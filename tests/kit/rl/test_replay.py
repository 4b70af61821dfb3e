"""The ring against a list that keeps the newest."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esscher.errors import CheckpointError, ConfigError, DataError, ShapeError
from esscher.kit.rl.replay import Replay

D, M = 2, 1


def block(n, start):
    """n transitions told apart by their numbers."""
    number = torch.arange(start, start + n, dtype=torch.float32)
    obs = torch.stack([number, -number], 1)
    return obs, number[:, None] / 1e4, number * 10, obs + 0.5, number.long() % 3 == 0


@given(st.integers(1, 12), st.lists(st.integers(0, 30), max_size=12))
def test_it_is_a_list_of_the_newest(capacity, sizes):
    replay, model, ring, count = Replay(capacity, D, M), [], {}, 0
    for n in sizes:
        replay.add(*block(n, count))
        for number in range(count, count + n):
            ring[number % capacity] = number
        count += n
        model = list(range(max(0, count - capacity), count))
        assert len(replay) == len(model)
        numbers = replay.at(torch.arange(len(replay))).obs[:, 0].tolist()
        assert sorted(numbers) == model
        assert numbers == [ring[i] for i in range(len(model))]


def test_a_batch_is_the_rows_it_names():
    parts = block(50, 0)
    replay = Replay.of(*parts)
    batch = replay.sample(64, torch.Generator().manual_seed(0))
    for got, column in zip(
        (batch.obs, batch.action, batch.reward, batch.next_obs), parts, strict=False
    ):
        assert torch.equal(got, column[batch.rows])
    assert torch.equal(batch.continues == 0, parts[4][batch.rows])
    assert torch.equal(batch.pair, torch.cat([batch.obs, batch.action], 1))


def test_every_row_is_as_likely():
    replay = Replay.of(*block(10, 0))
    index = replay.sample(20_000, torch.Generator().manual_seed(1)).rows
    counts = np.bincount(index.numpy(), minlength=10)
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9  # 99.9 % quantile of chi-squared, 9 dof


def test_its_state_comes_back():
    replay = Replay(7, D, M)
    replay.add(*block(9, 0))
    again = Replay(7, D, M)
    again.load_state_dict(replay.state_dict())
    for one in (replay, again):
        one.add(*block(2, 9))
    assert torch.equal(replay.rows, again.rows)
    with pytest.raises(CheckpointError, match="holds 7 rows of 7, this one 8 of 7"):
        Replay(8, D, M).load_state_dict(replay.state_dict())


def test_a_million_rows_of_hopper_fit():
    replay = Replay(1000, 11, 3)
    assert replay.rows.nbytes * 1000 <= 110e6


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="capacity"):
        Replay(0, D, M)
    replay = Replay(4, D, M)
    with pytest.raises(DataError, match="empty replay"):
        replay.sample(1, torch.Generator())
    obs, action, reward, following, terminated = block(3, 0)
    with pytest.raises(ShapeError, match="expected obs and next_obs"):
        replay.add(obs, action[:2], reward, following, terminated)
    with pytest.raises(DataError, match="NaN"):
        replay.add(obs, action, reward * torch.nan, following, terminated)
    assert len(replay) == 0
