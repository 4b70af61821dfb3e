"""Columns of transitions: what is refused, and the way from and to episodes."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from esscher.errors import DataError, ShapeError
from esscher.kit.rl.transitions import join_episodes
from tests.kit.rl.data import episodes, transitions


def test_episodes_come_back_bit_for_bit():
    given = episodes()
    found = list(join_episodes(given).episodes())
    assert len(found) == len(given)
    for a, b in zip(given, found, strict=True):
        for x, y in zip(a, b, strict=True):
            assert np.array_equal(x, y)


def test_columns_have_their_types_and_flags_stand_at_the_ends():
    rows = transitions()
    assert rows.obs.dtype == np.float32
    assert rows.terminated.tolist() == [False, False, True, False, False, False, False, True]
    assert rows.truncated.tolist() == [False] * 3 + [True] + [False] * 4
    assert rows.episode_id.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    assert rows.policy_id.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    assert rows.ends().tolist() == [False, False, True, True, False, False, False, True]


def test_the_next_action_never_comes_from_the_next_episode():
    rows = transitions()
    following, known = rows.next_action()
    assert known.tolist() == [True, True, False, False, True, True, True, False]
    assert np.array_equal(following[known], rows.action[1:][known[:-1]])
    assert np.array_equal(following[~known], rows.action[~known])


def test_returns_are_sums_over_episodes():
    rows = transitions()
    returns, number = rows.returns()
    assert number.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    expected = [e.reward.astype(np.float64).sum() for e in episodes()]
    assert returns == pytest.approx(expected)


@pytest.mark.parametrize("field", ["obs", "action", "reward", "next_obs"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_named(field, value):
    columns = asdict(transitions())
    columns[field] = columns[field].copy()
    columns[field][5] = value
    with pytest.raises(DataError, match=rf"^{field} has \d NaN or infinite values, first in row 5"):
        type(transitions())(**columns)


@pytest.mark.parametrize("field", list(asdict(transitions())))
def test_a_column_of_another_length_is_named(field):
    rows = transitions()
    if field == "reward":
        with pytest.raises(ShapeError, match="obs has 8 rows, reward has 7"):
            replace(rows, reward=rows.reward[:-1])
    else:
        with pytest.raises(ShapeError, match=f"{field} has 7 rows, reward has 8"):
            replace(rows, **{field: getattr(rows, field)[:-1]})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("obs", np.zeros(8), r"obs must be \[N, width\], got \[8\]"),
        ("reward", np.zeros((8, 1)), r"reward must be \[N\], got \[8, 1\]"),
        ("action", np.array([["left"]] * 8), "action must be numbers"),
        ("terminated", np.full(8, 2), "terminated must be true or false"),
        ("policy_id", np.full(8, -1), "policy_id must be >= 0, got -1"),
        ("next_obs", np.zeros((8, 3)), "next_obs is"),
    ],
)
def test_columns_of_the_wrong_kind_are_named(field, value, message):
    with pytest.raises(DataError, match=message):
        replace(transitions(), **{field: value})


def test_no_transitions_are_refused():
    rows = transitions()
    with pytest.raises(DataError, match="at least one transition"):
        rows.take(np.zeros(len(rows), dtype=bool))
    with pytest.raises(DataError, match="at least one episode"):
        join_episodes([])


def test_rows_out_of_order_are_no_episodes():
    rows = transitions()
    with pytest.raises(DataError, match="not the steps of one episode in order"):
        list(rows.take(np.array([1, 0, 2])).episodes())


def test_episodes_of_other_widths_are_refused():
    with pytest.raises(ShapeError, match="obs differs in shape"):
        join_episodes([*episodes(d=2), *episodes(d=3)])
    first = episodes()[0]
    with pytest.raises(ShapeError, match="episode 0 has 3 obs, 3 action and 3 reward"):
        join_episodes([first._replace(obs=first.obs[:-1])])
