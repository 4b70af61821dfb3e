"""Set covering: what every draw has, and matrices that others published."""

import hashlib

import numpy as np
import pytest

from esscher.branch.instances.set_cover import SetCover
from esscher.errors import ConfigError

SHAPES = [(165, 230, 0.05), (100, 100, 0.05), (20, 12, 0.2), (6, 5, 0.4), (40, 3, 0.5), (2, 3, 1.0)]


@pytest.mark.parametrize(("rows", "columns", "density"), SHAPES)
@pytest.mark.parametrize("source", [np.random.default_rng, np.random.RandomState])
def test_entries_and_degrees(rows, columns, density, source):
    kind = SetCover(rows, columns, density)
    for seed in range(10):
        milp = kind.sample(source(seed))
        dense = milp.matrix.toarray()
        assert dense.sum() == milp.matrix.nnz == kind.nnz == int(rows * columns * density)
        assert set(np.unique(dense)) <= {0.0, 1.0}
        assert dense.sum(axis=0).min() >= 2
        assert dense.sum(axis=1).min() >= 1
        assert milp.objective.min() >= 1
        assert milp.objective.max() <= 100
        assert (milp.objective == np.round(milp.objective)).all()
        assert milp.integer.all()
        assert (milp.row_low == 1).all()
        assert np.isinf(milp.row_high).all()
        assert not milp.maximise


def test_the_size_of_the_small_benchmark():
    assert SetCover(165, 230).nnz == 1897


def test_all_costs_come():
    costs = SetCover(50, 400, 0.05, max_coef=3).sample(np.random.default_rng(0)).objective
    assert set(costs) == {1.0, 2.0, 3.0}
    assert set(SetCover(6, 5, 0.4, max_coef=1).sample(np.random.default_rng(0)).objective) == {1.0}


def test_a_published_matrix():
    milp = SetCover(6, 5, 0.4).sample(np.random.RandomState(0))
    expected = [
        [1, 0, 1, 0, 0], [0, 1, 0, 0, 1], [0, 0, 1, 1, 0],
        [1, 0, 0, 0, 1], [1, 0, 0, 1, 1], [0, 1, 0, 0, 0],
    ]  # fmt: skip
    np.testing.assert_array_equal(milp.matrix.toarray(), expected)
    np.testing.assert_array_equal(milp.objective, [30, 20, 20, 15, 40])


@pytest.mark.parametrize(
    ("rows", "columns", "density", "costs", "digest"),
    [
        (500, 1000, 0.05, [98, 50, 15, 69, 17, 40], "739e1350abc1a23f"),
        (165, 230, 0.05, [81, 79, 6, 11, 100, 85], "c43432af00d1b3be"),
        (100, 100, 0.05, [58, 52, 13, 11, 58, 60], "a72b3d4af10228e5"),
        (20, 12, 0.2, [42, 24, 4, 47, 91, 51], "c69077dc086231d2"),
    ],
)
def test_published_matrices(rows, columns, density, costs, digest):
    """Hashes of the rows and costs that the generator of Gasse et al. makes of seed 0."""
    milp = SetCover(rows, columns, density).sample(np.random.RandomState(0))
    matrix = milp.matrix.sorted_indices()
    assert milp.objective[:6].tolist() == costs
    parts = np.concatenate([matrix.indptr, matrix.indices, milp.objective]).astype("<i8")
    assert hashlib.sha256(parts.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_rows": 1}, "n_rows"),
        ({"n_rows": 10.0}, "n_rows"),
        ({"n_cols": 0}, "n_cols"),
        ({"n_cols": True}, "n_cols"),
        ({"max_coef": 0}, "max_coef"),
        ({"density": 1.5}, "density"),
        ({"density": float("nan")}, "density"),
        ({"density": "high"}, "density"),
        ({"n_rows": 100, "n_cols": 10, "density": 0.09}, "90 entries, and one per row needs 100"),
        ({"n_rows": 10, "n_cols": 100, "density": 0.19}, "190 entries, .* per column needs 200"),
    ],
)
def test_impossible_parameters_are_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        SetCover(**fields)


def test_the_bounds_are_possible():
    one_each = SetCover(100, 10, 0.1).sample(np.random.default_rng(0)).matrix.toarray()
    assert (one_each.sum(axis=1) == 1).all()
    two_each = SetCover(10, 100, 0.2).sample(np.random.default_rng(0)).matrix.toarray()
    assert (two_each.sum(axis=0) == 2).all()


def test_a_column_never_gets_more_entries_than_there_are_rows():
    """Most draws of counts at this density fail, and are drawn again."""
    for seed in range(20):
        assert SetCover(5, 4, 0.9).sample(np.random.default_rng(seed)).matrix.nnz == 18


def test_a_density_that_cannot_be_drawn_is_refused():
    with pytest.raises(ConfigError, match=r"density 0\.99 is too high for 50 rows"):
        SetCover(50, 50, 0.99).sample(np.random.default_rng(0))
