"""Boxes and their indices, and what is refused."""

import pickle

import numpy as np
import pytest
from scipy import stats

from esscher.errors import ConfigError
from esscher.pandora import Box, PandoraInstance, backup_value, reservation_value, weitzman_value


@pytest.mark.parametrize("seed", range(20))
def test_indices_solve_their_equations(seed):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, 8))
    values, probs = rng.normal(0, 3, k), rng.dirichlet(np.ones(k))
    for cost in (1e-9, 0.1, 1.0, 10.0):
        box = Box(values, probs, cost)
        above = box.probs @ np.maximum(box.values - box.sigma, 0.0)
        below = box.probs @ np.maximum(box.beta - box.values, 0.0)
        assert above == pytest.approx(cost, rel=1e-6, abs=1e-13)
        assert below == pytest.approx(cost, rel=1e-6, abs=1e-13)
        assert (box.beta < box.mean) == (box.mean < box.sigma)


def test_free_boxes_have_the_ends_of_their_support():
    box = Box([3.0, -1.0, 2.0], [0.2, 0.5, 0.3], 0.0)
    assert (reservation_value(box), backup_value(box)) == (3.0, -1.0)
    assert reservation_value(box, 0.1) == pytest.approx(2.5)


def test_equal_values_are_merged_and_impossible_ones_dropped():
    box = Box([2.0, 1.0, 2.0, 9.0], [0.25, 0.5, 0.25, 0.0], 0.1, "A")
    assert box.values.tolist() == [1.0, 2.0]
    assert box.probs.tolist() == [0.5, 0.5]
    assert box == Box([1, 2], [0.5, 0.5], 0.1, "A")
    assert box != box.replace(name="B")
    assert box.type_key == box.replace(name="B").type_key
    assert box.type_key != box.replace(cost=0.2).type_key
    assert pickle.loads(pickle.dumps(box)) == box
    assert len({box, box.replace(name="A")}) == 1
    with pytest.raises(ValueError, match="read-only"):
        box.values[0] = 3.0


def test_nearly_normalised_probabilities_are_divided_by_their_sum():
    assert Box([0, 1], [0.5, 0.5 + 5e-10], 0.1).probs.sum() == pytest.approx(1.0, abs=1e-15)


def test_capped_and_surrogate_laws():
    box = Box([0.0, 1.0, 4.0], [0.4, 0.4, 0.2], 0.2)
    values, probs = box.capped
    assert values @ probs == pytest.approx(box.mean - box.cost)
    for z in (-1.0, 0.3, 1.0, 3.3, 5.0):
        opened = -box.cost + box.probs @ np.maximum(box.values, z)
        values, probs = box.surrogate
        assert probs @ np.maximum(values, z) == pytest.approx(max(z, box.mean, opened), abs=1e-12)
    costly = box.replace(cost=5.0)
    assert costly.surrogate[0].tolist() == [costly.mean]


@pytest.mark.parametrize(
    ("values", "probs", "cost", "says"),
    [
        ([np.nan, 1], [0.5, 0.5], 0.1, "finite"),
        ([np.inf, 1], [0.5, 0.5], 0.1, "finite"),
        ([0, 1], [np.nan, 0.5], 0.1, "finite"),
        ([0, 1], [-0.5, 1.5], 0.1, "negative"),
        ([0, 1], [0.5, 0.6], 0.1, "sum to 1"),
        ([0, 1], [0.5, 0.5 + 1e-8], 0.1, "sum to 1"),
        ([0, 1], [0.5, 0.5], -0.1, "cost"),
        ([0, 1], [0.5, 0.5], np.nan, "cost"),
        ([0, 1], [0.5, 0.5], np.inf, "cost"),
        ([], [], 0.1, "at least one value"),
        ([0, 1, 2], [0.5, 0.5], 0.1, "as many probs as values"),
        ([[0, 1]], [[0.5, 0.5]], 0.1, "as many probs as values"),
        (["a", 1], [0.5, 0.5], 0.1, "numbers"),
        ([0, 1], [0.0, 0.0], 0.1, "sum to 1"),
    ],
)
def test_bad_boxes_are_refused_by_name(values, probs, cost, says):
    with pytest.raises(ConfigError, match=f"'bad'.*{says}") as error:
        Box(values, probs, cost, "bad")
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Box.from_scipy(stats.cauchy(), 0.1, "bad"),
        lambda: Box.from_scipy(stats.pareto(0.9), 0.1, "bad"),
        lambda: Box.from_scipy(3.0, 0.1, "bad"),
        lambda: Box.from_samples([], 0.1, "bad"),
        lambda: Box.from_samples([1.0, np.nan], 0.1, "bad"),
        lambda: Box.uniform(1.0, 1.0, 0.1, "bad"),
        lambda: Box.exponential(0.0, 0.1, "bad"),
        lambda: Box.normal(0.0, -1.0, 0.1, "bad"),
        lambda: Box.normal(0.0, 1.0, -0.1, "bad"),
        lambda: Box.normal(0.0, 1.0, 0.1, "bad", n_atoms=0),
        lambda: Box.bernoulli(1.0, 1.5, 0.1, "bad"),
    ],
)
def test_bad_laws_are_refused_by_name(make):
    with pytest.raises(ConfigError, match="'bad'"):
        make()


def test_samples_become_their_empirical_law():
    box = Box.from_samples([3.0, 1.0, 3.0, 2.0], 0.1)
    assert box.values.tolist() == [1.0, 2.0, 3.0]
    assert box.probs.tolist() == [0.25, 0.25, 0.5]


@pytest.mark.parametrize("k", range(1, 5))
def test_weitzman_value_is_the_mean_of_the_largest_capped_value(k):
    rng = np.random.default_rng(k)
    boxes = [Box(rng.normal(0, 1, 3), rng.dirichlet(np.ones(3)), 0.1) for _ in range(k)]
    capped = [box.capped for box in boxes]
    grids = np.meshgrid(*[values for values, _ in capped], indexing="ij")
    probs = np.array([1.0])
    for _, p in capped:
        probs = np.multiply.outer(probs, p)
    best = np.max(grids, axis=0)
    problem = PandoraInstance(boxes)
    for y in (-np.inf, 0.0, 0.25, 1.0, 9.0):
        truth = (probs.reshape(best.shape) * np.maximum(best, max(y, 0.0))).sum()
        assert weitzman_value(problem, y) == pytest.approx(truth, abs=1e-12)
    with pytest.raises(ConfigError):
        weitzman_value(problem, np.nan)
