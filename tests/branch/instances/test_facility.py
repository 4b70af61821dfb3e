"""Facility location: numbers by hand, and those of others' procedure."""

import numpy as np
import pytest

from esscher.branch.instances.facility import Facility, facility_milp, rescaled
from esscher.errors import ConfigError
from tests.branch.brute import enumerate_optimum

DEMANDS = np.array([4, 6])
CAPACITIES = np.array([8, 12])
OPENING = np.array([10, 30])
SERVING = np.array([[1.0, 5.0], [8.0, 2.0]])


def by_hand(**changes):
    numbers = {"demands": DEMANDS, "capacities": CAPACITIES, "opening": OPENING, "serving": SERVING}
    return facility_milp(**{**numbers, "continuous": True, "name": "by hand", **changes})


def test_capacities_are_scaled_then_rounded_down():
    """20 of 45 times 3 * 10 is 13.33, and so on."""
    found = rescaled(np.array([20, 10, 15]), np.array([4, 6]), 3.0)
    np.testing.assert_array_equal(found, [13, 6, 10])
    np.testing.assert_array_equal(rescaled(np.array([10, 30]), np.array([20]), 2.0), [10, 30])


def test_capacity_lost_by_rounding_is_refused():
    with pytest.raises(ConfigError, match="ratio 1 leaves a capacity of 9 for a demand of 10"):
        rescaled(np.array([20, 10, 15]), np.array([4, 6]), 1.0)


def test_the_program_by_hand():
    milp = by_hand()
    expected = [
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [4, 0, 6, 0, -8, 0],
        [0, 4, 0, 6, 0, -12],
        [0, 0, 0, 0, 8, 12],
        [1, 0, 0, 0, -1, 0],
        [0, 1, 0, 0, 0, -1],
        [0, 0, 1, 0, -1, 0],
        [0, 0, 0, 1, 0, -1],
    ]
    np.testing.assert_array_equal(milp.matrix.toarray(), expected)
    np.testing.assert_array_equal(milp.objective, [1, 5, 8, 2, 10, 30])
    inf = np.inf
    np.testing.assert_array_equal(milp.row_low, [1, 1, -inf, -inf, 10, -inf, -inf, -inf, -inf])
    np.testing.assert_array_equal(milp.row_high, [inf, inf, 0, 0, inf, 0, 0, 0, 0])
    np.testing.assert_array_equal(milp.integer, [0, 0, 0, 0, 1, 1])
    assert not milp.maximise
    assert (milp.low == 0).all()
    assert (milp.high == 1).all()


def test_the_optimum_by_hand():
    """The second facility alone costs 30 + 5 + 2; the first alone is too small; both 40 + 1 + 2."""
    assert enumerate_optimum(by_hand()).value == pytest.approx(37.0)
    small = by_hand(capacities=np.array([8, 9]))
    assert enumerate_optimum(small).value == pytest.approx(43.0)


def test_shares_that_may_not_be_split_cost_more():
    """With capacities 7 and 5 for demands 4 and 6, whole customers fit in only one way."""
    fields = {"capacities": np.array([7, 5]), "serving": np.array([[1.0, 50.0], [8.0, 2.0]])}
    split = enumerate_optimum(by_hand(**fields))
    whole = enumerate_optimum(by_hand(**fields, continuous=False))
    # Of the second customer 5/6 is served by the second facility, the rest by the first.
    assert split.value == pytest.approx(40 + 1 + 8 / 6 + 2 * 5 / 6)
    assert whole.value == pytest.approx(40 + 50 + 8)
    assert by_hand(continuous=False).integer.all()


def test_what_every_draw_has():
    for seed in range(10):
        milp = Facility(6, 4).sample(np.random.default_rng(seed))
        assert milp.matrix.shape == (6 + 4 + 1 + 24, 24 + 4)
        dense = milp.matrix.toarray()
        demands, capacities = dense[6, ::4][:6], dense[10, 24:]
        assert demands.min() >= 5
        assert demands.max() <= 35
        assert milp.row_low[10] == demands.sum()
        # Each capacity lost less than one by rounding.
        assert 5 * demands.sum() - 4 < capacities.sum() <= 5 * demands.sum()
        serving = milp.objective[:24].reshape(6, 4) / (10 * demands[:, None])
        assert serving.min() >= 0
        assert serving.max() <= np.sqrt(2)
        opening = milp.objective[24:]
        assert (opening == np.round(opening)).all()
        assert opening.min() >= int(100 * np.sqrt(10))
        assert opening.max() <= 110 * np.sqrt(160) + 90


def test_numbers_of_others_procedure():
    """Those of Gasse et al. for seed 0."""
    milp = Facility(5, 5).sample(np.random.RandomState(0))
    dense = milp.matrix.toarray()
    np.testing.assert_array_equal(dense[5, :25:5], [23, 8, 29, 22, 24])
    np.testing.assert_array_equal(dense[10, 25:], [37, 152, 152, 147, 40])
    np.testing.assert_array_equal(milp.objective[25:], [653, 1400, 1440, 1287, 740])
    np.testing.assert_allclose(
        milp.objective[:3], [140.13477969892608, 143.97831928540424, 43.17408946855784], rtol=1e-14
    )


def test_assignment_may_be_binary():
    free = Facility(3, 2).sample(np.random.default_rng(0))
    bound = Facility(3, 2, continuous_assignment=False).sample(np.random.default_rng(0))
    assert free.integer.sum() == 2
    assert bound.integer.all()
    np.testing.assert_array_equal(free.objective, bound.objective)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_customers", 0), ("n_facilities", 0), ("n_facilities", "5"), ("ratio", 0.5),
        ("ratio", float("inf")), ("continuous_assignment", 1),
    ],
)  # fmt: skip
def test_impossible_parameters_are_named(field, value):
    with pytest.raises(ConfigError, match=field):
        Facility(**{field: value})
