"""Parallel tempering on the toy world and on one that traps a single chain."""

import math

import pytest
import torch

from esscher.core import Condition, IndependenceKernel, Reward, Table, Target
from esscher.core.mcmc import Move, metropolis_hastings
from esscher.core.tempering import geometric_powers, parallel_tempering
from esscher.errors import ConfigError, TargetUnreachableError
from tests.core.test_mcmc import p_value
from tests.worlds import seeded, toy_posterior, toy_prior, toy_target

POWERS = geometric_powers(3, 0.3)


def run(target, kernel, steps=40, chains=2000, *, powers=POWERS, seed=0):
    return parallel_tempering(target, kernel, steps, chains, powers=powers, rng=seeded(seed))


def test_the_posterior_is_reached():
    found = run(toy_target(), IndependenceKernel(toy_prior()))
    assert p_value(found.x, toy_posterior()) > 1e-3
    assert torch.equal(found.log_target, toy_target().log_density(found.x))
    assert found.trace.shape == (40, 2000)
    assert bool(((found.swaps > 0) & (found.swaps <= 1)).all())
    assert found.rhat < 1.1


class Step:
    """To a neighbour on a line of n states."""

    def __init__(self, n):
        self.n = n

    def propose(self, x, *, context, rng):
        step = 2 * torch.randint(2, x.shape, generator=rng) - 1
        return Move((x + step).clamp(0, self.n - 1), torch.zeros(len(x)))


def test_chains_cross_a_valley_by_exchange():
    """Two equal hills with a valley of 12 nats between them; all chains start on the left."""
    hill = torch.tensor([0.0, 0, -12, -12, -12, 0, 0], dtype=torch.float64)
    prior = Table(torch.zeros(7))
    target = Target(prior, Reward(lambda x: [float(hill[i]) for i in x]))
    found = run(target, Step(7), steps=300, chains=400, powers=[1.0, 0.3, 0.0])
    assert p_value(found.x, target.table()) > 1e-3
    left = torch.zeros(400, dtype=torch.int64)
    stuck = metropolis_hastings(target, Step(7), 300, 400, rng=seeded(0), start=left)
    assert int((stuck.x > 3).sum()) == 0


def test_hard_evidence():
    target = Target(toy_prior(), Condition(lambda xs: ["c" in x for x in xs]))
    found = run(target, IndependenceKernel(toy_prior()), powers=[1.0, 0.5, 0.0])
    assert p_value(found.x, target.table()) > 1e-3


def test_powers_fall_from_one_to_zero():
    assert geometric_powers(2) == [1.0, 0.0]
    assert geometric_powers(4, 0.04) == pytest.approx([1.0, 0.2, 0.04, 0.0])
    for rungs, lowest in ((1, 0.1), (3, 0.0), (3, 1.0)):
        with pytest.raises(ConfigError, match="tempering needs"):
            geometric_powers(rungs, lowest)


@pytest.mark.parametrize("powers", [[1.0], [0.9, 0.0], [1.0, 1.0], [1.0, 0.0, 0.5], [1.0, -0.5]])
def test_powers_out_of_order(powers):
    with pytest.raises(ConfigError, match="powers must fall"):
        run(toy_target(), IndependenceKernel(toy_prior()), 1, 1, powers=powers)


def test_what_cannot_be_reached():
    never = Target(toy_prior(), Condition(lambda xs: [False] * len(xs)))
    with pytest.raises(TargetUnreachableError, match="Z <"):
        run(never, IndependenceKernel(toy_prior()), 2, 5)


def test_one_seed_one_result():
    kernel = IndependenceKernel(toy_prior())
    first, second, other = (run(toy_target(), kernel, 3, 50, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.x, second.x)
    assert not torch.equal(first.x, other.x)
    assert math.isinf(first.rhat)
