"""Small programs for tests of branching."""

import numpy as np
from scipy import sparse

from esscher.branch.milp import Milp
from esscher.branch.settings import configure


def covering(rows, columns, density, seed):
    """A set covering problem, every row with two columns at least."""
    rng = np.random.default_rng(seed)
    matrix = (rng.random((rows, columns)) < density).astype(float)
    for row in matrix:
        row[rng.choice(columns, 2, replace=False)] = 1
    return Milp(
        rng.integers(1, 101, columns).astype(float),
        sparse.csr_array(matrix),
        np.ones(rows),
        np.full(rows, np.inf),
        np.zeros(columns),
        np.ones(columns),
        np.ones(columns, dtype=bool),
    )


def knapsacks(rows, columns, seed, *, maximise=True):
    """Several knapsacks at once, some variables whole up to 3 and the last one continuous."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(5, 40, (rows, columns)).astype(float)
    high = np.where(np.arange(columns) % 3 == 0, 3.0, 1.0)
    worth = rng.integers(5, 60, columns).astype(float)
    return Milp(
        worth if maximise else -worth,
        sparse.csr_array(weight),
        np.full(rows, -np.inf),
        (weight @ high * 0.4).round(),
        np.zeros(columns),
        high,
        np.arange(columns) < columns - 1,
        maximise=maximise,
    )


def exact_knapsack(columns, seed):
    """One knapsack that has to be filled exactly, which most nodes' bounds make impossible."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(5, 40, (1, columns)).astype(float)
    chosen = rng.random(columns) < 0.5
    chosen[:2] = True
    total = weight[:, chosen].sum(1)
    ones = np.ones(columns)
    cost = rng.integers(5, 60, columns).astype(float)
    return Milp(
        cost, sparse.csr_array(weight), total, total, 0 * ones, ones, np.ones(columns, dtype=bool)
    )


def model_of(milp, settings="bare", **changes):
    """A configured model."""
    model = milp.to_scip()
    configure(model, settings, **{"seed": 0, **changes})
    return model
