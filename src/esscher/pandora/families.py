"""Instances to measure on, by family, size and seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from esscher.errors import ConfigError
from esscher.pandora.box import Box
from esscher.pandora.instance import PandoraInstance

__all__ = ["FAMILIES", "exposed", "hardness_stress", "heavy_tailed", "random", "tight"]


def random(n: int, seed: int, *, atoms: int = 4, cost: float = 1.0) -> PandoraInstance:
    """Values uniform on [0, 10], probabilities uniform on the simplex, costs on [0, `cost`].

    Committing is near the optimum for large n.
    """
    rng = _rng(n, seed)
    return PandoraInstance(
        Box(10.0 * rng.random(atoms), rng.dirichlet(np.ones(atoms)), cost * rng.random())
        for _ in range(n)
    )


def heavy_tailed(n: int, seed: int, *, atoms: int = 4, tail: float = 1.2) -> PandoraInstance:
    """Values of a Pareto law with exponent `tail`, costs up to half the mean of each box."""
    rng = _rng(n, seed)
    boxes = []
    for _ in range(n):
        values, probs = rng.pareto(tail, atoms), rng.dirichlet(np.ones(atoms))
        boxes.append(Box(values, probs, 0.5 * rng.random() * float(probs @ values)))
    return PandoraInstance(boxes)


def tight(n: int = 2, seed: int = 0, *, height: float = 1000.0) -> PandoraInstance:
    """Where committing earns 2 and the optimum 2.5 - 2 / height, at any n ≥ 2.

    B is `height` with probability 2 / height, for 1. The others are free and are 2 or 0, the best
    of them either with probability 1/2; for n = 2 that is one box A. The seed is not used.

    Raises:
        ConfigError: if n < 2 or height ≤ 4.
    """
    if n < 2 or not height > 4:
        raise ConfigError(f"the tight family needs n ≥ 2 and height > 4, got {n} and {height}")
    del seed
    miss = 0.5 ** (1.0 / (n - 1))
    names = ["A"] if n == 2 else [f"A{k + 1}" for k in range(n - 1)]
    probes = [Box.bernoulli(2.0, 1.0 - miss, 0.0, name) for name in names]
    return PandoraInstance([*probes, Box.bernoulli(height, 2.0 / height, 1.0, "B")])


def exposed(
    n: int,
    seed: int,
    *,
    height: tuple[float, float] = (50.0, 200.0),
    spread: float = 1.0,
    mass: float = 0.8,
    price: tuple[float, float] = (0.05, 0.9),
) -> PandoraInstance:
    """The tight family with its free box broken into n - 1 paid ones that differ: never committing.

    B has mean 2 and is rarely high. Each probe is about 2 with a small probability, those summing
    to about `mass`, and costs that probability times a number in `price`. Nearly all probes are
    worth opening before B is decided, though B has the larger reservation value: the
    committing policies earn 0.84 to 0.9 of the optimum, at n = 18 as at n = 40.

    Args:
        n: at least 2.
        seed: of all numbers.
        height: range of B's high value.
        spread: the probes' values are in 2 ± spread.
        mass: how many probes are not 0, on average.
        price: range of the cost of a probe by its probability.

    Raises:
        ConfigError: if n < 2.
    """
    if n < 2:
        raise ConfigError(f"the exposed family needs at least 2 boxes, got {n}")
    rng = _rng(n, seed)
    high = rng.uniform(*height)
    boxes = [Box.bernoulli(high, 2.0 / high, 1.0, "B")]
    for k in range(n - 1):
        prob = min(mass * rng.uniform(0.5, 1.5) / (n - 1), 1.0)
        value = 2.0 + spread * rng.uniform(-1.0, 1.0)
        boxes.append(Box.bernoulli(value, prob, prob * rng.uniform(*price), f"A{k + 1}"))
    return PandoraInstance(boxes)


def hardness_stress(n: int, seed: int, *, mass: float = 1.0) -> PandoraInstance:
    """Values 0, a, b, common to all probes: which of them come first makes a product of (1 - p).

    A generator of stress only. It is not the reduction behind the hardness result, which this
    family imitates by guess.

    Raises:
        ConfigError: if n < 2.
    """
    if n < 2:
        raise ConfigError(f"the stress family needs at least 2 boxes, got {n}")
    rng = _rng(n, seed)
    low, high = 1.6, 2.4
    boxes = [Box([0.0, 100.0], [0.98, 0.02], 1.0, "B")]
    for k in range(n - 1):
        one, two = mass * rng.uniform(0.3, 1.0, 2) / (n - 1)
        cost = one * rng.uniform(0.3, 0.6) + two * rng.uniform(0.6, 1.2)
        boxes.append(Box([0.0, low, high], [1.0 - one - two, one, two], cost, f"A{k + 1}"))
    return PandoraInstance(boxes)


FAMILIES: dict[str, Callable[..., PandoraInstance]] = {
    "exposed": exposed,
    "hardness_stress": hardness_stress,
    "heavy_tailed": heavy_tailed,
    "random": random,
    "tight": tight,
}
"""Each is called with n and seed."""


def _rng(n: int, seed: int) -> np.random.Generator:
    if n < 0:
        raise ConfigError(f"an instance has at least 0 boxes, got {n}")
    return np.random.default_rng(seed)
