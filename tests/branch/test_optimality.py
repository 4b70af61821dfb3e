"""Whoever branches, the optimum is the same: four classes, against enumeration and HiGHS."""

import pytest
import torch

from esscher.branch.instances.kind import instance
from esscher.branch.measuring import policy_of
from esscher.branch.network import BipartiteNetwork, NetworkConfig
from esscher.branch.policies import Pseudocost, RandomChoice
from esscher.branch.setup import Setup, solve_with
from esscher.branch.strong import StrongBranching
from tests.branch.brute import enumerate_optimum
from tests.branch.instances.test_kind import SMALL, TINY, highs_optimum


def untrained():
    network = BipartiteNetwork(NetworkConfig("retro43", 16), rng=torch.Generator().manual_seed(0))
    return policy_of(network)


POLICIES = {
    "random": lambda: RandomChoice(0),
    "pseudocost": Pseudocost,
    "strong": StrongBranching,
    "network": untrained,
}


def agreed(kinds, seed, count, truth):
    for name, kind in kinds.items():
        for i in range(count):
            milp = instance(kind, seed, i)
            wanted = truth(milp)
            for policy in POLICIES.values():
                found = solve_with(milp.to_scip(), policy(), Setup("bare"), i)
                assert found.status == "optimal", (name, i)
                assert found.objective == pytest.approx(wanted, rel=1e-6, abs=1e-6), (name, i)


def test_enumeration_finds_the_same_optimum():
    agreed(TINY, 11, 4, lambda milp: enumerate_optimum(milp).value)


@pytest.mark.slow
def test_enumeration_finds_the_same_optimum_of_a_hundred():
    agreed(TINY, 12, 25, lambda milp: enumerate_optimum(milp).value)


@pytest.mark.slow
def test_highs_finds_the_same_optimum_of_a_hundred():
    agreed(SMALL, 13, 25, highs_optimum)
