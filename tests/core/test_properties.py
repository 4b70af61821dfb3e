"""Laws that hold for every prior, evidence and model, searched for counterexamples."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esscher.core import (
    DIVERGENCES,
    Likelihood,
    Reward,
    Table,
    Target,
    acceptance_curve,
    alpha_divergence,
    effective_sample_size,
    exact,
    log_z,
)

ALL = [*DIVERGENCES.values(), *(alpha_divergence(a) for a in (-1.0, 0.5, 2.0))]
each = pytest.mark.parametrize("divergence", ALL, ids=lambda d: d.name)

nats = st.floats(-8.0, 8.0)
often = settings(max_examples=60)


@st.composite
def vectors(draw, count):
    n = draw(st.integers(2, 6))
    return [
        torch.tensor(draw(st.lists(nats, min_size=n, max_size=n))).double() for _ in range(count)
    ]


def evidence(values):
    return Likelihood(lambda items: values[torch.as_tensor(items)])


def law(values):
    return torch.log_softmax(values, 0)


@often
@given(vectors(3))
def test_tilts_add(v):
    prior, a, b = v
    at_once = Target(Table(prior), evidence(a), evidence(b)).table()
    in_turn = Target(Target(Table(prior), evidence(a)).table(), evidence(b)).table()
    summed = Target(Table(prior), evidence(a + b)).table()
    assert torch.allclose(at_once.log_probs, in_turn.log_probs, atol=1e-10)
    assert torch.allclose(at_once.log_probs, summed.log_probs, atol=1e-10)


@often
@given(vectors(2), st.floats(-100.0, 100.0), st.floats(0.1, 10.0))
def test_a_reward_shift_moves_only_log_z(v, shift, beta):
    prior, r = v
    plain = Target(Table(prior), Reward(lambda i: r[torch.as_tensor(i)], beta)).table()
    moved = Target(Table(prior), Reward(lambda i: r[torch.as_tensor(i)] + shift, beta)).table()
    assert torch.allclose(plain.log_probs, moved.log_probs, atol=1e-9)
    assert moved.log_z - plain.log_z == pytest.approx(shift / beta, abs=1e-9)


@often
@given(vectors(2), st.randoms(use_true_random=False))
def test_relabelling_outcomes_relabels_the_posterior(v, random):
    prior, r = v
    order = list(range(len(prior)))
    random.shuffle(order)
    there = Target(Table(prior[order]), evidence(r[order])).table()
    here = Target(Table(prior), evidence(r)).table()
    assert torch.allclose(there.log_probs, here.log_probs[order], atol=1e-10)
    assert there.log_z == pytest.approx(here.log_z, abs=1e-10)


@often
@given(vectors(2), st.floats(0.0, 1.0))
def test_tempering_interpolates_log_densities(v, a):
    prior, r = v
    x = torch.arange(len(prior))
    target = Target(Table(prior), evidence(r))
    expected = (1 - a) * Target(Table(prior)).log_density(x) + a * target.log_density(x)
    assert torch.allclose(target.tempered(a).log_density(x), expected, atol=1e-9)


@each
@often
@given(v=vectors(2))
def test_divergences_are_positive_and_vanish_only_at_equality(divergence, v):
    pi, p = law(v[0]), law(v[1])
    value = float(exact(divergence, pi, p))
    far = float((pi.exp() - p.exp()).abs().max())
    assert value >= -1e-12
    assert abs(float(exact(divergence, pi, pi))) < 1e-12
    # All of these dominate TVD^2 / 8.
    assert value >= far**2 / 32 - 1e-12


@often
@given(v=vectors(2))
def test_exchanging_arguments(v):
    pi, p = law(v[0]), law(v[1])
    for forward, reverse in (
        ("forward_kl", "reverse_kl"),
        ("chi2_forward", "chi2_reverse"),
        ("js", "js"),
        ("tv", "tv"),
        ("hellinger", "hellinger"),
    ):
        a = float(exact(DIVERGENCES[forward], pi, p))
        assert a == pytest.approx(float(exact(DIVERGENCES[reverse], p, pi)), rel=1e-9, abs=1e-12)


@often
@given(v=vectors(2))
def test_known_inequalities(v):
    pi, p = law(v[0]), law(v[1])
    tv, js, h2, kl, chi2 = (
        float(exact(DIVERGENCES[k], pi, p))
        for k in ("tv", "js", "hellinger", "reverse_kl", "chi2_reverse")
    )
    assert tv <= 1.0 + 1e-12
    assert js <= math.log(2) + 1e-12
    assert 2 * tv**2 <= kl + 1e-12  # Pinsker
    assert kl <= math.log1p(chi2) + 1e-9
    assert h2 / 2 <= tv + 1e-12 <= math.sqrt(h2) + 2e-12  # Le Cam


@often
@given(st.lists(nats, min_size=3, max_size=30), st.lists(nats, min_size=2, max_size=6))
def test_acceptance_and_distance_fall_in_the_bound(weights, bounds):
    rows = acceptance_curve(torch.tensor(weights).double(), sorted(bounds))
    for a, b in itertools.pairwise(rows):
        assert b.acceptance.mean <= a.acceptance.mean + 1e-12
        assert b.tvd.mean <= a.tvd.mean + 1e-12
        assert b.kl.mean <= a.kl.mean + 1e-9


@often
@given(st.lists(nats, min_size=1, max_size=30), st.floats(-1000.0, 1000.0))
def test_weights_know_no_scale(weights, shift):
    w = torch.tensor(weights).double()
    assert log_z(w + shift).mean == pytest.approx(log_z(w).mean + shift, abs=1e-9)
    assert effective_sample_size(w + shift) == pytest.approx(effective_sample_size(w), rel=1e-6)
    assert 1 - 1e-9 <= effective_sample_size(w) <= len(w) + 1e-9
