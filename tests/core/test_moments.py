import math
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from esscher.core import Condition, Moments, Table, Target, fit_moments
from esscher.errors import ConfigError, InfeasibleMomentsError, NumericsError, ShapeError
from tests.worlds import SEQUENCES, random_law, seeded, toy_prior

FEATURES = torch.tensor([[float("c" in s), float("ab" in s)] for s in SEQUENCES]).double()


def test_toy_moments_by_newton_in_ten_steps():
    fit = fit_moments(FEATURES, [0.5, 0.8], toy_prior().log_probs)
    print(fit.coefficients.tolist(), fit.iterations)
    tilted = Table(toy_prior().log_probs + FEATURES @ fit.coefficients)
    for k, wanted in enumerate((0.5, 0.8)):
        assert abs(tilted.expectation(FEATURES[:, k]) - wanted) < 1e-10
    assert float((fit.achieved - torch.tensor([0.5, 0.8], dtype=torch.float64)).abs().max()) < 1e-10
    assert fit.iterations <= 10
    assert fit.hard == {}
    assert fit.warnings == ()


def test_coefficients_minimise_the_dual():
    phi, log_p = FEATURES.numpy(), toy_prior().log_probs.numpy()

    def dual(x):
        return np.logaddexp.reduce(log_p + phi @ x) - x @ np.array([0.5, 0.8])

    best = minimize(
        dual, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14}
    )
    fit = fit_moments(FEATURES, [0.5, 0.8], toy_prior().log_probs)
    assert fit.coefficients.numpy() == pytest.approx(best.x, abs=1e-5)


def test_the_tilt_is_the_closest_law_with_these_means():
    fit = fit_moments(FEATURES, [0.5, 0.8], toy_prior().log_probs)
    tilted = Table(toy_prior().log_probs + FEATURES @ fit.coefficients)
    # Pythagoras for I-projections: any q with the same means is further from the prior.
    constraints = torch.cat([FEATURES, torch.ones(len(FEATURES), 1).double()], 1)
    noise = torch.randn(len(FEATURES), generator=seeded(0), dtype=torch.float64) * tilted.probs
    noise -= tilted.probs * (
        constraints
        @ torch.linalg.solve(
            (constraints * tilted.probs[:, None]).T @ constraints, constraints.T @ noise
        )
    )
    other = Table((tilted.probs + 0.2 * noise).log())
    assert other.expectation(FEATURES[:, 0]) == pytest.approx(0.5, abs=1e-10)
    gap = other.kl(toy_prior()) - tilted.kl(toy_prior()) - other.kl(tilted)
    assert abs(gap) < 1e-10
    assert other.kl(tilted) > 0.01


def test_log_z_is_that_of_the_tilt():
    fit = fit_moments(FEATURES, [0.5, 0.8], toy_prior().log_probs + math.log(len(SEQUENCES)))
    tilted = Table(toy_prior().log_probs + FEATURES @ fit.coefficients)
    assert fit.log_z.mean == pytest.approx(tilted.log_z, abs=1e-12)


def test_log_z_error_is_the_spread_of_repeated_fits():
    law = toy_prior()
    truth = Table(law.log_probs + FEATURES @ _exact_coefficients()).log_z
    fits = [
        fit_moments(FEATURES[law.sample(1000, rng=seeded(seed)).x], [0.5, 0.6]).log_z
        for seed in range(200)
    ]
    values = torch.tensor([fit.mean for fit in fits], dtype=torch.float64)
    spread = float(values.std())
    assert abs(float(values.mean()) - truth) < 4 * spread / math.sqrt(200)
    assert sum(fit.se for fit in fits) / 200 == pytest.approx(spread, rel=0.15)


def _exact_coefficients():
    return fit_moments(FEATURES, [0.5, 0.6], toy_prior().log_probs).coefficients


def test_log_weights_and_far_scales():
    phi = torch.tensor([[0.0], [1e6], [3e6]], dtype=torch.float64)
    fit = fit_moments(phi, [2e6], torch.tensor([1000.0, 1001.0, 1002.0]))
    assert float(fit.achieved[0]) == pytest.approx(2e6, rel=1e-9)


@pytest.mark.parametrize("mean", [0.001, 0.999, 1e-6])
def test_close_to_the_edge(mean):
    phi = torch.tensor([[0.0], [1.0]] * 50, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = fit_moments(phi, [mean])
    assert float(fit.coefficients[0]) == pytest.approx(math.log(mean / (1 - mean)), rel=1e-6)


def test_moment_at_an_extreme_becomes_a_condition():
    fit = fit_moments(FEATURES, [1.0, 0.8], toy_prior().log_probs, names=["c", "ab"])
    assert fit.hard == {"c": 1.0}
    assert float(fit.coefficients[0]) == 0.0
    assert fit.achieved.tolist() == pytest.approx([1.0, 0.8], abs=1e-10)
    target = Target(
        toy_prior(),
        Condition(lambda t: ["c" in s for s in t]),
        Moments({"ab": 0.8}, {"ab": lambda t: [s.count("ab") > 0 for s in t]}),
    )
    same = fit_moments(FEATURES[:, 1:], [0.8], target_weights(target))
    assert float(same.coefficients[0]) == pytest.approx(float(fit.coefficients[1]), abs=1e-9)


def target_weights(target):
    rest = Target(target.prior, *target.evidence[:1])
    return rest.log_density(torch.arange(len(SEQUENCES)))


def test_only_hard_moments():
    fit = fit_moments(FEATURES, [1.0, 0.0], toy_prior().log_probs)
    assert fit.iterations == 0
    assert fit.coefficients.tolist() == [0.0, 0.0]
    assert fit.achieved.tolist() == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize(
    ("phi", "means", "message"),
    [
        (FEATURES, [1.2, 0.5], r"'phi0' wanted 1\.2, observed 0 to 1"),
        (FEATURES, [-0.1, 0.5], r"'phi0' wanted -0\.1"),
        (FEATURES[:, [0, 0]], [0.4, 0.6], "no weights on the draws have these means"),
        (torch.zeros(9, 1), [0.3], "observed always 0 in 9 draws.*proposal that shows"),
        (torch.tensor([[0.0], [2.0], [5.0]]), [5.0], "edge of its range"),
        (torch.tensor([[1.0, 0.0], [0.0, 1.0]]), [1.0, 1.0], "'phi0' = 1, 'phi1' = 1 at once"),
        (torch.eye(3)[:, :2], [0.7, 0.7], "no weights"),
    ],
)
def test_unreachable_means(phi, means, message):
    with pytest.raises(InfeasibleMomentsError, match=message):
        fit_moments(phi, means)


def test_collinear_features_warn_and_match():
    phi = torch.stack([FEATURES[:, 0], 1 - FEATURES[:, 0], FEATURES[:, 1]], 1)
    with pytest.warns(UserWarning, match="phi0, phi1, phi2 are collinear.*rank 2 of 3"):
        fit = fit_moments(phi, [0.3, 0.7, 0.5], toy_prior().log_probs)
    assert fit.achieved.tolist() == pytest.approx([0.3, 0.7, 0.5], abs=1e-10)
    single = fit_moments(FEATURES, [0.3, 0.5], toy_prior().log_probs)
    tilt, plain = phi @ fit.coefficients, FEATURES @ single.coefficients
    assert torch.allclose(tilt - tilt[0], plain - plain[0], atol=1e-8)
    assert len(fit.warnings) == 1


def test_duplicates_share_the_coefficient():
    with pytest.warns(UserWarning, match="collinear"):
        fit = fit_moments(FEATURES[:, [0, 0]], [0.3, 0.3], toy_prior().log_probs)
    assert float(fit.coefficients[0]) == pytest.approx(float(fit.coefficients[1]), abs=1e-9)


def test_few_effective_draws_warn():
    phi = torch.zeros(1000, 1, dtype=torch.float64)
    phi[0] = 1.0
    with pytest.warns(UserWarning, match=r"effective sample size of 1\.\d of 1000.*proposal"):
        fit_moments(phi, [0.99])


def test_bootstrap_interval():
    x = toy_prior().sample(2000, rng=seeded(0)).x
    fit = fit_moments(FEATURES[x], [0.5, 0.6], bootstrap=200, rng=seeded(1))
    assert bool((fit.ci[:, 0] < fit.coefficients).all() and (fit.coefficients < fit.ci[:, 1]).all())
    assert bool((fit.ci[:, 0] < _exact_coefficients()).all())
    assert bool((_exact_coefficients() < fit.ci[:, 1]).all())
    again = fit_moments(FEATURES[x], [0.5, 0.6], bootstrap=200, rng=seeded(1))
    assert torch.equal(fit.ci, again.ci)
    with pytest.raises(ConfigError, match="rng"):
        fit_moments(FEATURES[x], [0.5, 0.6], bootstrap=10)


def test_random_problems_converge():
    for seed in range(30):
        phi = torch.randn(300, 4, generator=seeded(seed), dtype=torch.float64)
        means = torch.softmax(3 * random_law(300, seed), 0) @ phi
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = fit_moments(phi, means)
        assert float((fit.achieved - means).abs().max()) < 1e-9


@pytest.mark.parametrize(
    ("phi", "means", "log_w", "error"),
    [
        (torch.zeros(3), [0.0], None, ShapeError),
        (torch.zeros(0, 1), [0.0], None, ShapeError),
        (torch.zeros(3, 1), [0.0, 1.0], None, ShapeError),
        (torch.zeros(3, 1), [0.0], torch.zeros(2), ShapeError),
        (torch.tensor([[torch.nan], [0.0]]), [0.0], None, NumericsError),
        (torch.zeros(2, 1), [math.nan], None, NumericsError),
        (torch.zeros(2, 1), [0.0], torch.tensor([0.0, torch.nan]), NumericsError),
        (torch.zeros(2, 1), [0.0], torch.full((2,), -torch.inf), InfeasibleMomentsError),
    ],
)
def test_bad_input(phi, means, log_w, error):
    with pytest.raises(error):
        fit_moments(phi, means, log_w)
