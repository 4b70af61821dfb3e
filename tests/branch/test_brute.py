"""The truth for small programs, by hand."""

import numpy as np
import pytest
from scipy import sparse

from esscher.branch.milp import Milp
from tests.branch.brute import enumerate_optimum


def knapsack(**changes):
    """max 6a + 5b + 4c + y, 5a + 4b + 3c + y <= 7.5, binaries, 0 <= y <= 1."""
    fields = {
        "objective": np.array([6.0, 5.0, 4.0, 1.0]),
        "matrix": sparse.csr_array(np.array([[5.0, 4.0, 3.0, 1.0]])),
        "row_low": np.array([-np.inf]),
        "row_high": np.array([7.5]),
        "low": np.zeros(4),
        "high": np.ones(4),
        "integer": np.array([True, True, True, False]),
        "maximise": True,
    }
    return Milp(**{**fields, **changes})


def test_a_mixed_program():
    found = enumerate_optimum(knapsack())
    assert found.value == pytest.approx(9.5)
    np.testing.assert_allclose(found.x, [0, 1, 1, 0.5], atol=1e-9)


def test_a_program_of_integers():
    found = enumerate_optimum(knapsack(integer=np.ones(4, dtype=bool)))
    assert found.value == 9.0


def test_integers_beyond_zero_and_one():
    assert enumerate_optimum(knapsack(high=np.array([1.0, 1.9, 2.0, 0.0]))).value == 9.5 - 0.5
    wide = knapsack(high=np.array([1.0, 1.0, 2.0, 1.0]), row_high=np.array([6.2]))
    assert enumerate_optimum(wide).value == pytest.approx(8.2)


def test_nothing_feasible():
    assert enumerate_optimum(knapsack(row_low=np.array([7.0]), high=np.zeros(4))) is None
    whole = knapsack(integer=np.ones(4, dtype=bool), low=np.full(4, 0.2), high=np.full(4, 0.8))
    assert enumerate_optimum(whole) is None
