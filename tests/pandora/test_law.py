"""Continuous laws: indices against quadrature, and finite laws that keep them."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from esscher.pandora import Box, backup_value, reservation_value
from esscher.pandora.frozen import Frozen
from esscher.pandora.law import Exponential, Normal, Uniform

LAWS = [
    (Uniform(-1.0, 3.0), stats.uniform(-1.0, 4.0)),
    (Exponential(0.7), stats.expon(scale=1 / 0.7)),
    (Normal(1.5, 2.0), stats.norm(1.5, 2.0)),
    (Frozen(stats.gamma(2.0)), stats.gamma(2.0)),
    (Frozen(stats.beta(0.5, 2.0)), stats.beta(0.5, 2.0)),
    (Frozen(stats.pareto(2.5)), stats.pareto(2.5)),
    (Frozen(stats.logistic(1.0)), stats.logistic(1.0)),
]


def above(dist, g):
    low, high = dist.support()
    flat = max(low - g, 0.0)
    start = max(g, low)
    if start >= high:
        return flat
    cuts = [q for q in dist.ppf([0.1, 0.5, 0.9, 0.999]) if q > start]
    edges = [start, *cuts, high]
    return flat + sum(
        integrate.quad(dist.sf, a, b, epsabs=1e-13, epsrel=1e-12)[0]
        for a, b in itertools.pairwise(edges)
    )


@pytest.mark.parametrize(("law", "dist"), LAWS, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("cost", [1e-3, 0.4, 7.0])
def test_indices_against_quadrature(law, dist, cost):
    sigma, beta = reservation_value(law, cost), backup_value(law, cost)
    assert above(dist, sigma) == pytest.approx(cost, abs=1e-8)
    assert above(dist, beta) - dist.mean() + beta == pytest.approx(cost, abs=1e-8)


@pytest.mark.parametrize(("law", "dist"), LAWS, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("n_atoms", [1, 20])
def test_a_finite_law_keeps_mean_and_indices(law, dist, n_atoms):
    exact = 1e-12 if not isinstance(law, Frozen) else 1e-9
    for cost in (0.4,) if isinstance(law, Frozen) else (1e-3, 0.4, 7.0):
        box = Box.from_law(law, cost, "A", n_atoms)
        assert len(box.values) <= n_atoms + 2
        assert box.mean == pytest.approx(dist.mean(), abs=exact)
        sigma, beta = law.reservation_value(cost), law.backup_value(cost)
        excess = box.probs @ np.maximum(box.values - sigma, 0.0)
        below = box.probs @ np.maximum(beta - box.values, 0.0)
        assert excess == pytest.approx(cost, abs=exact)
        assert below == pytest.approx(cost, abs=exact)
        assert box.sigma == pytest.approx(sigma, rel=1e-6)


def test_symmetric_laws_have_mirrored_indices():
    for law in (Normal(0.7, 1.3), Uniform(-2.0, 5.0)):
        for cost in (1e-6, 0.2, 4.0):
            mirrored = 2 * law.mean - law.reservation_value(cost)
            assert law.backup_value(cost) == pytest.approx(mirrored, abs=1e-12)


@pytest.mark.parametrize("cost", [1e-300, 1e-100, 1e-20, 1e-8])
def test_tiny_costs_have_indices(cost):
    sigma = Normal(0.0, 1.0).reservation_value(cost)
    # Mills' ratio: E(X - g)⁺ = φ(g) / g² (1 - 3/g² + ...)
    approx = -0.5 * sigma**2 - 0.5 * math.log(2 * math.pi) - 2 * math.log(sigma)
    assert math.log(cost) == pytest.approx(approx, abs=3.2 / sigma**2)
    assert Exponential(2.0).reservation_value(cost) == pytest.approx(-math.log(2 * cost) / 2)
    beta = Exponential(2.0).backup_value(cost)
    assert beta == pytest.approx(math.sqrt(cost), rel=1e-3)


def test_free_laws_have_the_ends_of_their_support():
    assert Normal(0.0, 1.0).reservation_value(0.0) == math.inf
    assert Exponential(1.0).reservation_value(0.0) == math.inf
    assert Exponential(1.0).backup_value(0.0) == 0.0
    assert Uniform(1.0, 2.0).reservation_value(0.0) == 2.0
    assert Frozen(stats.beta(2, 2)).reservation_value(0.0) == 1.0
    assert Box.normal(0.0, 1.0, 0.0).mean == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("dist", [stats.poisson(3.0), stats.binom(5, 0.3)])
def test_discrete_laws_keep_their_atoms(dist):
    box = Box.from_scipy(dist, 0.2)
    assert box.mean == pytest.approx(dist.mean(), abs=1e-9)
    assert np.allclose(box.probs, dist.pmf(box.values), atol=1e-11)
    assert Frozen(dist).reservation_value(0.2) == pytest.approx(box.sigma)
    assert Frozen(dist).backup_value(0.2) == pytest.approx(box.beta)
