import math

import pytest
import torch

from esscher.core import effective_sample_size, log_z, log_z_bounds, pareto_k
from esscher.errors import ConfigError, NumericsError, ShapeError, TargetUnreachableError
from tests.worlds import seeded, toy_posterior, toy_prior, toy_target


def toy_weights(law, n, seed):
    x, _ = law.sample(n, rng=seeded(seed))
    return toy_target().log_density(x) - toy_prior().log_prob(x)


@pytest.mark.parametrize("shift", [0.0, 1000.0, -1000.0])
def test_log_z_at_a_thousand_nats(shift):
    w = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    e = log_z(w.log() + shift)
    assert e.mean == pytest.approx(math.log(3.0) + shift, rel=1e-6)
    assert e.se == pytest.approx(float(w.std()) / 2 / 3.0, rel=1e-9)
    assert e.ess == pytest.approx(144 / 50)


def test_se_formula_in_terms_of_ess():
    log_w = torch.randn(50, generator=seeded(0), dtype=torch.float64)
    e = log_z(log_w)
    assert e.se == pytest.approx(math.sqrt((1 / e.ess - 1 / 50) * 50 / 49))


def test_log_z_from_the_prior():
    e = log_z(toy_weights(toy_prior(), 20_000, 0))
    assert abs(e.mean - toy_posterior().log_z) < 4 * e.se
    assert e.se < 0.02


def test_sandwich_bounds_hold_and_close():
    q = toy_weights(toy_prior(), 64 * 2000, 0)
    p = toy_weights(toy_posterior(), 2000, 1)
    truth = toy_posterior().log_z
    widths = []
    for k in (1, 4, 16, 64):
        lower, upper = log_z_bounds(q, p, k)
        assert lower.mean - 3 * lower.se <= truth <= upper.mean + 3 * upper.se
        widths.append(upper.mean - lower.mean)
        print(k, lower, upper, truth)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.06
    assert widths[0] > 0.5


def test_bounds_at_k_1_are_the_two_mean_log_weights():
    q, p = torch.tensor([1.0, 3.0]), torch.tensor([5.0, 7.0, 9.0])
    lower, upper = log_z_bounds(q, p, 1)
    assert (lower.mean, upper.mean, upper.n) == (2.0, 7.0, 3)


def test_lower_bound_is_minus_infinity_when_a_whole_group_is_rejected():
    lower, _ = log_z_bounds(torch.tensor([0.0, 0.0, -torch.inf, -torch.inf]), torch.zeros(1), 2)
    assert lower.mean == -math.inf


def test_pareto_k_finds_the_tail_index():
    u = torch.rand(20_000, generator=seeded(0), dtype=torch.float64)
    for shape in (0.3, 0.7, 1.2):
        # Pareto with index 1/shape: log-weights are exponential.
        assert pareto_k(-shape * u.log()) == pytest.approx(shape, abs=0.12)


def test_pareto_k_at_the_edges():
    assert pareto_k(torch.zeros(1000)) == -math.inf
    assert pareto_k(torch.randn(10, generator=seeded(0))) == math.inf
    spike = torch.zeros(1000, dtype=torch.float64)
    spike[0] = 20.0
    assert pareto_k(spike) == math.inf
    assert pareto_k(torch.rand(5000, generator=seeded(0), dtype=torch.float64)) < 0.2


def test_effective_sample_size():
    assert effective_sample_size(torch.zeros(7)) == pytest.approx(7)
    assert effective_sample_size(torch.tensor([0.0, -torch.inf, -800.0])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("log_w", "error", "message"),
    [
        (torch.full((30,), -torch.inf), TargetUnreachableError, "30 draws have weight zero.* 0.1 "),
        (torch.tensor([0.0, torch.nan]), NumericsError, "log-weight 1 is nan"),
        (torch.tensor([torch.inf, 0.0]), NumericsError, "log-weight 0 is inf"),
        (torch.zeros(0), ShapeError, r"\(0,\)"),
    ],
)
def test_bad_weights(log_w, error, message):
    for function in (log_z, effective_sample_size, pareto_k):
        with pytest.raises(error, match=message):
            function(log_w)


@pytest.mark.parametrize(("n", "m", "k"), [(3, 3, 4), (4, 0, 2), (4, 4, 0)])
def test_too_few_for_bounds(n, m, k):
    with pytest.raises((ConfigError, ShapeError)):
        log_z_bounds(torch.zeros(n), torch.zeros(m), k)
