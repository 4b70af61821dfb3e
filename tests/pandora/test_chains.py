"""Assignments of boxes to blocks against all of them."""

import itertools

import numpy as np
import pytest

from esscher.pandora.chains import Block, Problem, assign, signatures


def problem_of(rng, s, d):
    removal = rng.integers(0, 4, (s, d))
    table = {}

    def gain(block):
        key = block.level, block.removed
        if key not in table:
            table[key] = rng.integers(-2, 9, s)
        return table[key]

    return Problem(removal, gain, int(rng.integers(0, 20)), 5)


def best_by_listing(problem, chain):
    """Promise of the best of all assignments, each checked against the guess."""
    s, best = len(problem.removal), None
    for blocks in itertools.product(range(-1, len(chain)), repeat=s):
        gained, fits = [0] * len(chain), True
        for b, block in enumerate(chain):
            own = [i for i in range(s) if blocks[i] == b]
            worth = [int(problem.gains(block)[i]) for i in own]
            opened = [i for i in range(s) if 0 <= blocks[i] <= b]
            fits &= all(w > 0 for w in worth) and not (block.alone and len(own) > 1)
            fits &= bool((problem.removal[opened].sum(0) <= block.removed).all())
            gained[b] = sum(worth)
        if not fits:
            continue
        value = problem.start
        for b in range(len(chain) - 1, -1, -1):
            value += gained[b]
            if not chain[b].alone:
                value = min(value, (chain[b].level + 3) * problem.unit)
            if b:
                value = min(value, (chain[b - 1].level + 1) * problem.unit)
        best = value if best is None else max(best, value)
    return best


@pytest.mark.parametrize("seed", range(25))
def test_assign_finds_the_best_of_all_assignments(seed):
    rng = np.random.default_rng(seed)
    s, d, count = 4, 2, int(rng.integers(1, 4))
    problem = problem_of(rng, s, d)
    allowed = np.sort(rng.integers(0, 10, (count, d)), axis=0)
    levels = np.sort(rng.integers(0, 8, count))[::-1]
    chain = [
        Block(int(a), tuple(r.tolist()), bool(rng.random() < 0.4))
        for a, r in zip(levels, allowed, strict=True)
    ]
    found = assign(problem, chain)
    assert found.promise == best_by_listing(problem, chain)
    assert found.states <= (count + 1) ** s * s


def test_signatures_are_the_sums_of_all_subsets():
    rows = np.array([[1, 0], [2, 1], [1, 0]])
    sums = {
        tuple(map(int, rows[list(c)].sum(0)))
        for k in range(4)
        for c in itertools.combinations(range(3), k)
    }
    assert {tuple(map(int, row)) for row in signatures(rows, 100)} == sums
    assert signatures(rows, 3) is None
