"""The sum tree against running sums."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esscher.branch.priorities import Priorities, SumTree
from esscher.errors import ConfigError


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(any),
    st.lists(st.tuples(st.integers(0, 39), st.integers(1, 9)), max_size=20),
)
def test_masses_fall_where_running_sums_say(start, changes):
    values = np.array(start, float)
    tree = SumTree(len(values))
    tree[np.arange(len(values))] = values
    changed = np.array([i % len(values) for i, _ in changes], np.int64)
    new = np.array([v for _, v in changes], float)
    tree[changed] = new
    for i, v in zip(changed, new, strict=True):
        values[i] = v
    assert tree.total == values.sum()
    assert (tree[np.arange(len(values))] == values).all()
    mass = np.arange(0, values.sum(), 0.5)
    assert (tree.find(mass) == np.searchsorted(np.cumsum(values), mass, side="right")).all()


def test_a_mass_at_the_very_end_finds_a_number_above_zero():
    tree = SumTree(5)
    tree[np.array([1, 3])] = np.array([0.1, 0.2])
    assert tree.find(np.array([tree.total, tree.total * (1 + 1e-15)])).tolist() == [3, 3]


def test_beta_goes_to_one():
    settings = Priorities(beta=0.4, beta_steps=100)
    assert [settings.beta_at(n) for n in (0, 50, 100, 1000)] == [0.4, 0.7, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "value"), [("alpha", -0.1), ("beta", 1.1), ("beta_steps", 0), ("smallest", 0.0)]
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ConfigError, match=name):
        Priorities(**{name: value})
