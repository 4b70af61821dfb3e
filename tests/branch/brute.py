"""The optimum of a small program by trying every assignment of its integer variables."""

import itertools
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from esscher.branch.milp import Milp

TOLERANCE = 1e-9


class Optimum(NamedTuple):
    value: float
    x: np.ndarray


def enumerate_optimum(milp, most=1 << 14):
    """The best solution, or None where there is none.

    Integer variables need finite bounds and may have `most` assignments in all; the others are
    optimised by an LP for each of these.
    """
    whole = np.flatnonzero(milp.integer)
    low, high = np.ceil(milp.low[whole]), np.floor(milp.high[whole])
    assert np.isfinite(low).all()
    assert np.isfinite(high).all()
    sizes = np.maximum(high - low + 1, 0)
    assert np.prod(sizes) <= most, f"{np.prod(sizes):g} assignments"
    ranges = [range(int(a), int(b) + 1) for a, b in zip(low, high, strict=True)]
    choices = np.array(list(itertools.product(*ranges)), dtype=float)
    return _by_values(milp, choices) if milp.integer.all() else _by_lps(milp, whole, choices)


def random_milp(rng, *, continuous=0, n=8, m=6):
    """A program of `n` binaries and small integers, with rows of every kind.

    Rows hold at a random point, so that every program is feasible; all are bounded.
    """
    total = n + continuous
    integer = rng.permutation(total) < n
    filled = rng.random((m, total)) < 0.6
    matrix = np.where(filled, rng.integers(-5, 6, (m, total)), 0).astype(float)
    low = np.where(rng.random(total) < 0.2, -1.0, 0.0)
    high = low + np.where(rng.random(total) < 0.3, 2.0, 1.0)
    activity = matrix @ rng.integers(low, high + 1)
    kind = rng.integers(0, 4, m)
    row_low = np.where(kind == 0, -np.inf, activity - rng.integers(0, 3, m))
    row_high = np.where(kind == 1, np.inf, activity + rng.integers(0, 3, m))
    row_low[kind == 3] = row_high[kind == 3] = activity[kind == 3]
    return Milp(
        rng.integers(-9, 10, total).astype(float), sparse.csr_array(matrix), row_low, row_high,
        low, high, integer, maximise=bool(rng.random() < 0.5), name="random",
    )  # fmt: skip


def _by_values(milp, choices):
    if len(choices) == 0:
        return None
    activity = choices @ milp.matrix.toarray().T
    fits = (activity >= milp.row_low - TOLERANCE) & (activity <= milp.row_high + TOLERANCE)
    feasible = choices[fits.all(axis=1)]
    if len(feasible) == 0:
        return None
    values = feasible @ milp.objective
    best = values.argmax() if milp.maximise else values.argmin()
    return Optimum(float(values[best]), feasible[best])


def _by_lps(milp, whole, choices):
    sign = -1.0 if milp.maximise else 1.0
    matrix = milp.matrix.toarray()
    up, down = np.isfinite(milp.row_high), np.isfinite(milp.row_low)
    sides = np.concatenate([milp.row_high[up], -milp.row_low[down]])
    rows = np.vstack([matrix[up], -matrix[down]])
    best = None
    for choice in choices:
        low, high = milp.low.copy(), milp.high.copy()
        low[whole] = high[whole] = choice
        found = linprog(
            sign * milp.objective, A_ub=rows, b_ub=sides, bounds=np.column_stack([low, high])
        )
        assert found.status in (0, 2), found.message
        if found.status == 0 and (best is None or found.fun < sign * best.value):
            best = Optimum(sign * float(found.fun), found.x)
    return best
