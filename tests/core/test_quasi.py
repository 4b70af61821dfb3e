import math

import pytest
import torch

from esscher.core import DIVERGENCES, Table, acceptance_curve, exact, quasi_rejection
from esscher.errors import ConfigError, TargetUnreachableError
from tests.core.test_sample import p_value
from tests.worlds import seeded, toy_posterior, toy_prior, toy_target

LOG_W = toy_target().log_weight(torch.arange(364))
BOUNDS = [math.log(b) for b in (0.5, 1.0, 4.0, 16.0, 64.0)]


def exact_law(log_bound):
    """The law of accepted draws and its acceptance, by enumeration."""
    table = Table(toy_prior().log_probs + LOG_W.clamp(max=log_bound))
    return table, math.exp(table.log_z - log_bound)


@pytest.mark.parametrize("log_bound", BOUNDS)
def test_quality_matches_enumeration(log_bound):
    law, acceptance = exact_law(log_bound)
    result = quasi_rejection(toy_target(), toy_prior(), log_bound, 5000, rng=seeded(1))
    row = result.quality
    posterior = toy_posterior()
    tvd = float(exact(DIVERGENCES["tv"], law.log_probs, posterior.log_probs))
    print(log_bound, row.acceptance, acceptance, row.tvd, tvd, row.kl, posterior.kl(law))
    assert abs(row.acceptance.mean - acceptance) < 3 * row.acceptance.se + 1e-12
    assert abs(row.tvd.mean - tvd) < 3 * row.tvd.se + 1e-12
    assert abs(row.kl.mean - posterior.kl(law)) < 3 * row.kl.se + 1e-12
    assert p_value(result.x, law) > 0.001
    assert len(result.x) == 5000


def test_at_a_valid_bound_it_is_exact():
    bound = float(LOG_W.max())
    law, _ = exact_law(bound)
    gap = exact(DIVERGENCES["tv"], law.log_probs, toy_posterior().log_probs)
    assert float(gap) < 1e-12
    row = quasi_rejection(toy_target(), toy_prior(), bound, 100, rng=seeded(0)).quality
    assert row.tvd.mean < 1e-12
    assert row.kl.mean < 1e-12


def test_tiny_bounds_return_the_proposal():
    row = acceptance_curve(LOG_W[toy_prior().sample(50_000, rng=seeded(0)).x], [-50.0])[0]
    tvd = exact(DIVERGENCES["tv"], toy_prior().log_probs, toy_posterior().log_probs)
    assert row.acceptance.mean == 1.0
    assert abs(row.tvd.mean - float(tvd)) < 3 * row.tvd.se


def test_errors_are_the_spread_of_repeated_estimates():
    bounds = BOUNDS[1:3]
    means, errors = [], []
    for seed in range(200):
        x = toy_prior().sample(20_000, rng=seeded(seed)).x
        rows = acceptance_curve(LOG_W[x], bounds)
        numbers = [(row.acceptance, row.tvd, row.kl) for row in rows]
        means.append([[e.mean for e in row] for row in numbers])
        errors.append([[e.se for e in row] for row in numbers])
    mean, error = (torch.tensor(v, dtype=torch.float64) for v in (means, errors))
    truth = torch.zeros(len(bounds), 3, dtype=torch.float64)
    for i, bound in enumerate(bounds):
        law, acceptance = exact_law(bound)
        tvd = float(exact(DIVERGENCES["tv"], law.log_probs, toy_posterior().log_probs))
        truth[i] = torch.tensor([acceptance, tvd, toy_posterior().kl(law)])
    assert torch.allclose(error.mean(0), mean.std(0), rtol=0.15)
    coverage = ((mean - truth).abs() <= 1.96 * error).double().mean(0)
    assert bool(((coverage >= 0.92) & (coverage <= 0.98)).all()), coverage


@pytest.mark.parametrize("bound", BOUNDS[1:4])
def test_errors_agree_with_the_jackknife(bound):
    n = 1500
    log_w = LOG_W[toy_prior().sample(n, rng=seeded(5)).x]
    row = acceptance_curve(log_w, [bound])[0]
    without = [acceptance_curve(log_w[torch.arange(n) != i], [bound])[0] for i in range(n)]
    for name in ("acceptance", "tvd", "kl"):
        means = torch.tensor([getattr(r, name).mean for r in without], dtype=torch.float64)
        jackknife = math.sqrt((n - 1) / n * float(((means - means.mean()) ** 2).sum()))
        assert getattr(row, name).se == pytest.approx(jackknife, rel=0.04)


def test_curve_far_from_zero():
    here = acceptance_curve(LOG_W, BOUNDS)
    there = acceptance_curve(LOG_W + 1000.0, [b + 1000.0 for b in BOUNDS])
    for a, b in zip(here, there, strict=True):
        assert a.tvd.mean == pytest.approx(b.tvd.mean, abs=1e-9)
        assert a.kl.mean == pytest.approx(b.kl.mean, abs=1e-9)


def test_errors():
    with pytest.raises(ConfigError, match="log_bound must be finite"):
        acceptance_curve(LOG_W, [math.nan])
    with pytest.raises(TargetUnreachableError):
        acceptance_curve(torch.full((9,), -torch.inf), [0.0])
