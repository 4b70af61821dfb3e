"""The designs of the published simulation studies, from one seed.

D1 "classification": seven Gaussians in the plane, three of them known. D2 "mcmc": five, two of them
known, easy or hard. D3 "sensitivity": three known, two crossed novelties and outliers. Further
columns are noise with the same law in every class.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError
from esscher.novelty.niw import Array

__all__ = ["Design", "Simulated", "simulate"]

Design = Literal["classification", "mcmc_easy", "mcmc_hard", "sensitivity"]
DESIGNS: tuple[Design, ...] = ("classification", "mcmc_easy", "mcmc_hard", "sensitivity")


class Simulated(NamedTuple):
    """Rows of a design.

    Attributes:
        train: [n, p] rows of the known classes.
        labels: [n] their classes, 1 to J.
        test: [m, p].
        truth: [m] classes, those above n_known novel.
        n_known: J.
    """

    train: Array
    labels: NDArray[np.int64]
    test: Array
    truth: NDArray[np.int64]
    n_known: int


class _Class(NamedTuple):
    mean: tuple[float, float]
    covariance: Any
    train: int
    test: int


def simulate(
    design: Design = "classification",
    *,
    dim: int = 2,
    factor: float = 1.0,
    swapped: int = 0,
    seed: int = 0,
) -> Simulated:
    """Draw training and test rows.

    Args:
        design: see the module.
        dim: columns, at least 2.
        factor: multiplies the sizes of the test classes.
        swapped: training labels exchanged between the last two known classes, half from each.
        seed: of all draws.

    Raises:
        ConfigError: if a setting is out of range.

    Reference: the designs of Benedetti et al. (2023) and their project report.
    """
    if design not in DESIGNS:
        raise ConfigError(f"design must be one of {', '.join(DESIGNS)}, got {design!r}")
    if dim < 2 or factor <= 0 or swapped < 0:
        raise ConfigError(
            f"dim must be at least 2, factor positive and swapped not negative, got {dim}, "
            f"{factor} and {swapped}"
        )
    classes, noise = _classes(design)
    rng = np.random.default_rng(seed)
    known = [c for c in classes if c.train]
    train = np.concatenate([_draw(c, c.train, dim, noise, rng) for c in known])
    labels = np.repeat(np.arange(1, len(known) + 1), [c.train for c in known])
    sizes = [max(1, round(c.test * factor)) for c in classes]
    test = np.concatenate(
        [_draw(c, n, dim, noise, rng) for c, n in zip(classes, sizes, strict=True)]
    )
    truth = np.repeat(np.arange(1, len(classes) + 1), sizes)
    if swapped:
        _swap(labels, len(known), swapped, rng)
    return Simulated(train, labels, test, truth, len(known))


def _classes(design: Design) -> tuple[list[_Class], float]:
    """The classes, the known ones first, and the variance of the other columns."""
    eye = np.eye(2)
    if design == "classification":
        up, down = [[1, 0.9], [0.9, 1]], [[1, -0.9], [-0.9, 1]]
        return [
            _Class((-5, 5), up, 300, 200),
            _Class((-4, -4), eye, 300, 200),
            _Class((4, 4), eye, 400, 250),
            _Class((0, 0), [[1, -0.75], [-0.75, 1]], 0, 90),
            _Class((5, -10), up, 0, 100),
            _Class((5, -10), down, 0, 100),
            _Class((-10, -10), 0.01 * eye, 0, 60),
        ], 1.0
    if design == "sensitivity":
        up, down = [[0.5, 0.4], [0.4, 0.5]], [[0.5, -0.4], [-0.4, 0.5]]
        return [
            _Class((-5, 5), 0.5 * eye, 50, 20),
            _Class((5, 5), 0.5 * eye, 50, 20),
            _Class((5, -5), 0.5 * eye, 50, 20),
            _Class((0, 0), up, 0, 18),
            _Class((0, 0), down, 0, 17),
            _Class((-5, -5), 3 * 0.5**2 * eye, 0, 5),
        ], 0.5
    variance = 0.2 if design == "mcmc_easy" else 0.75
    last = 0.2 if design == "mcmc_easy" else 0.375
    means = [(2.0, 2.0), (-2.0, -2.0), (-2.0, 2.0), (2.0, -2.0)]
    return [
        *(_Class(m, variance * eye, 500 if i < 2 else 0, 200) for i, m in enumerate(means)),
        _Class((0.0, 0.0), last * eye, 0, 200),
    ], 0.2


def _draw(c: _Class, n: int, dim: int, noise: float, rng: np.random.Generator) -> Array:
    plane = rng.multivariate_normal(np.asarray(c.mean), np.asarray(c.covariance), n)
    rest = np.sqrt(noise) * rng.standard_normal((n, dim - 2))
    return np.concatenate([plane, rest], 1)


def _swap(labels: NDArray[np.int64], last: int, swapped: int, rng: np.random.Generator) -> None:
    """Exchange labels between the last two known classes in place."""
    if last < 2:
        raise ConfigError("labels can be swapped where at least two classes are known")
    for_a, for_b = (np.flatnonzero(labels == k) for k in (last, last - 1))
    half = swapped // 2
    if half > min(len(for_a), len(for_b)):
        raise ConfigError(f"cannot swap {swapped} labels between {len(for_a)} and {len(for_b)}")
    labels[rng.choice(for_a, half, replace=False)] = last - 1
    labels[rng.choice(for_b, half, replace=False)] = last
