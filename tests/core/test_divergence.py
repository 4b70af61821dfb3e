import math

import pytest
import torch

from esscher.core import DIVERGENCES, alpha_divergence, exact, get_divergence
from esscher.errors import ConfigError, NumericsError, ShapeError
from tests.worlds import random_law

ALL = [*DIVERGENCES.values(), *(alpha_divergence(a) for a in (-1.0, 0.5, 2.0))]
each = pytest.mark.parametrize("divergence", ALL, ids=lambda d: d.name)

BY_HAND = {
    "forward_kl": lambda t: -math.log(t),
    "reverse_kl": lambda t: t * math.log(t),
    "js": lambda t: 0.5 * (t * math.log(t) - (t + 1) * math.log((t + 1) / 2)),
    "tv": lambda t: 0.5 * abs(t - 1),
    "chi2_forward": lambda t: (1 - t) ** 2 / t,
    "chi2_reverse": lambda t: (t - 1) ** 2,
    "hellinger": lambda t: (1 - math.sqrt(t)) ** 2,
    "alpha:-1": lambda t: (1 / t + t - 2) / 2,
    "alpha:0.5": lambda t: 4 * (0.5 * t + 0.5 - math.sqrt(t)),
    "alpha:2": lambda t: (t - 1) ** 2 / 2,
}


@each
@pytest.mark.parametrize("t", [1e-3, 0.3, 1.0, 1.7, 40.0])
def test_formula(divergence, t):
    u = torch.tensor(math.log(t), dtype=torch.float64)
    assert float(divergence.f(u)) == pytest.approx(BY_HAND[divergence.name](t), rel=1e-9, abs=1e-12)


@each
@pytest.mark.parametrize("t", [1e-3, 0.3, 0.99, 1.7, 40.0])
def test_slope_is_the_derivative(divergence, t):
    u = torch.tensor(math.log(t), dtype=torch.float64, requires_grad=True)
    (du,) = torch.autograd.grad(divergence.f(u), u)
    assert float(divergence.slope(u.detach())) == pytest.approx(float(du) / t, rel=1e-9)
    assert float(divergence.scaled_slope(u.detach())) == pytest.approx(float(du), rel=1e-9)


@each
@pytest.mark.parametrize("t", [1e-3, 0.3, 1.7, 40.0])
def test_mirror_exchanges_the_arguments(divergence, t):
    u = torch.tensor(math.log(t), dtype=torch.float64)
    assert float(divergence.f(u)) == pytest.approx(t * float(divergence.mirror(-u)), rel=1e-9)


@each
def test_edge_values_are_the_limits(divergence):
    far = torch.tensor(-600.0, dtype=torch.float64)
    for edge, curve in (
        (divergence.at_zero, divergence.f),
        (divergence.slope_at_zero_target, divergence.mirror),
    ):
        value = float(curve(far))
        assert value > 500 if math.isinf(edge) else value == pytest.approx(edge, abs=1e-9)
    assert divergence.needs_floor == math.isinf(divergence.slope_at_zero_target)


@each
def test_exact_matches_the_definition(divergence):
    pi, p = random_law(9, 1), random_law(9, 2)
    by_hand = sum(
        float(b.exp()) * BY_HAND[divergence.name](float((a - b).exp()))
        for a, b in zip(pi, p, strict=True)
    )
    assert float(exact(divergence, pi, p)) == pytest.approx(by_hand, rel=1e-10)
    assert abs(float(exact(divergence, p, p))) < 1e-15


@each
def test_disjoint_parts_cost_their_edge_values(divergence):
    pi = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    p = torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64).log()
    expected = 0.5 * divergence.at_zero + 0.5 * divergence.slope_at_zero_target
    assert float(exact(divergence, pi, p)) == pytest.approx(expected)


def test_known_values_with_zero_mass():
    half = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    one = torch.tensor([0.0, -torch.inf], dtype=torch.float64)
    value = {name: float(exact(d, one, half)) for name, d in DIVERGENCES.items()}
    assert value["reverse_kl"] == pytest.approx(math.log(2))
    assert value["forward_kl"] == math.inf
    assert value["tv"] == pytest.approx(0.5)
    assert value["chi2_reverse"] == pytest.approx(1.0)
    assert value["hellinger"] == pytest.approx(2 - math.sqrt(2))
    assert float(exact(DIVERGENCES["forward_kl"], half, one)) == pytest.approx(math.log(2))


def test_far_apart_laws_stay_exact():
    pi = torch.tensor([0.0, -1000.0], dtype=torch.float64)
    p = torch.tensor([-1000.0, 0.0], dtype=torch.float64)
    assert float(exact(DIVERGENCES["forward_kl"], pi, p)) == pytest.approx(1000)
    assert float(exact(DIVERGENCES["reverse_kl"], pi, p)) == pytest.approx(1000)
    assert float(exact(DIVERGENCES["js"], pi, p)) == pytest.approx(math.log(2))
    assert float(exact(DIVERGENCES["tv"], pi, p)) == pytest.approx(1.0)
    assert float(exact(DIVERGENCES["chi2_forward"], pi, p)) == math.inf


@each
def test_exact_is_differentiable_where_mass_is_zero(divergence):
    logits = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    p = torch.tensor([0.2, 0.3, 0.5, 0.0], dtype=torch.float64).log()
    value = exact(divergence, torch.log_softmax(logits, 0), p)
    if divergence.needs_floor:
        assert float(value.detach()) == math.inf
        return
    (gradient,) = torch.autograd.grad(value, logits)
    assert bool(gradient.isfinite().all())


def test_lookup():
    assert get_divergence("js") is DIVERGENCES["js"]
    assert get_divergence("alpha:0.5").name == "alpha:0.5"
    assert get_divergence("alpha:1") is DIVERGENCES["reverse_kl"]
    assert get_divergence("alpha:0") is DIVERGENCES["forward_kl"]
    with pytest.raises(ConfigError, match="did you mean 'forward_kl'"):
        get_divergence("foward_kl")
    with pytest.raises(ConfigError, match="alpha:<number>"):
        get_divergence("alpha:x")
    with pytest.raises(ConfigError, match="finite"):
        alpha_divergence(math.nan)


def test_alpha_tends_to_the_kls():
    pi, p = random_law(9, 1), random_law(9, 2)
    for limit in (0.0, 1.0):
        near = float(exact(alpha_divergence(limit + 1e-5), pi, p))
        assert near == pytest.approx(float(exact(alpha_divergence(limit), pi, p)), rel=1e-3)


def test_bad_input():
    with pytest.raises(NumericsError, match="log_p must be normalised"):
        exact(DIVERGENCES["tv"], random_law(3, 0), torch.zeros(3))
    with pytest.raises(NumericsError, match="log_pi"):
        exact(DIVERGENCES["tv"], torch.full((3,), torch.nan), random_law(3, 0))
    with pytest.raises(ShapeError, match=r"\(2,\) and \(3,\)"):
        exact(DIVERGENCES["tv"], random_law(2, 0), random_law(3, 0))
