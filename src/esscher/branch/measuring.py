"""A network measured: how large the trees are that it makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch

from esscher.branch.graph_policy import GraphPolicy
from esscher.branch.network import BipartiteNetwork, NetworkConfig
from esscher.branch.observation.observer import make_observer
from esscher.branch.problems import Problem
from esscher.branch.serving import Scorer
from esscher.branch.setup import Setup, solve_with
from esscher.core.estimate import Estimate
from esscher.kit.rl.evaluate import seed_estimate

__all__ = ["Mapper", "detached", "measured", "policy_of", "rebuilt"]

T = TypeVar("T")
R = TypeVar("R")
LARGEST = 20_000
"""Nodes after which a measurement is stopped, and counted so."""


class Mapper(Protocol):
    """What of a pool is needed here."""

    def map(self, function: Callable[[T], R], batches: Sequence[T]) -> list[R]:
        """function(batch) of every batch, in their order."""
        ...


def measured(
    network: BipartiteNetwork,
    problems: Sequence[Problem],
    settings: str,
    pool: Mapper,
) -> tuple[Estimate, float]:
    """Mean of log2 nodes, and the geometric mean of nodes, of the greedy policy."""
    weights = detached(network)
    tasks = [_Look(network.config, weights, problem, settings) for problem in problems]
    logs = np.log2(np.array(pool.map(_look, tasks), dtype=np.float64))
    return seed_estimate(logs), float(2 ** logs.mean())


@dataclass(frozen=True)
class _Look:
    """One measurement."""

    network: NetworkConfig
    weights: dict[str, torch.Tensor]
    problem: Problem
    settings: str


def _look(look: _Look) -> int:
    policy = policy_of(rebuilt(look.network, look.weights))
    setup = Setup(look.settings, node_limit=LARGEST)
    return solve_with(look.problem.model(), policy, setup, 0).nodes


def policy_of(network: BipartiteNetwork) -> GraphPolicy:
    """A network as a branching policy."""
    return GraphPolicy(Scorer(network), make_observer(network.config.features))


def detached(network: BipartiteNetwork) -> dict[str, torch.Tensor]:
    """A copy of a network's weights, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def rebuilt(config: NetworkConfig, weights: dict[str, torch.Tensor]) -> BipartiteNetwork:
    """A network of these weights."""
    network = BipartiteNetwork(config, rng=torch.Generator())
    network.load_state_dict(weights)
    return network
