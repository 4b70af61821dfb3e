"""Behaviour densities: exact where they say so, and what they do to odd data."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from esscher.errors import ConfigError, NumericsError
from esscher.kit.runs.seeds import Streams
from esscher.offline.config import DensityConfig
from esscher.offline.densities.fit import calibration_levels, fit_density
from esscher.offline.densities.flow import Flow
from esscher.offline.densities.latent import CVAE
from esscher.offline.densities.mixture import MDN, Mixture, OracleDensity, k_means


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def mdn(d=2, m=2, k=3):
    start = torch.rand(k, m, generator=rng(9)) - 0.5
    return MDN(d, m, components=k, width=16, std_floor=0.05, start=start, rng=rng())


def two_modes(n=2000, m=1, seed=0):
    """Actions near ±0.6 whatever the state."""
    g = rng(seed)
    obs = torch.randn(n, 2, generator=g)
    side = torch.where(torch.rand(n, 1, generator=g) < 0.5, -0.6, 0.6)
    return obs, side + 0.05 * torch.randn(n, m, generator=g)


def test_a_mixture_density_is_scipys():
    law = mdn()
    obs, action = torch.randn(50, 2, generator=rng(1)), torch.rand(50, 2, generator=rng(2)) * 2 - 1
    with torch.no_grad():
        parts, found = law.mixture(obs), law.log_prob(obs, action)
    for i in range(50):
        terms = [
            math.exp(parts.log_weight[i, k])
            * stats.multivariate_normal.pdf(
                action[i].numpy(), parts.mean[i, k].numpy(), np.diag(parts.std[i, k].numpy() ** 2)
            )
            for k in range(3)
        ]
        assert float(found[i]) == pytest.approx(math.log(sum(terms)), abs=1e-5)


def one_dimensional(kind):
    if kind == "mdn":
        return mdn(d=1, m=1)
    modes = Mixture(torch.log(torch.tensor([[0.3, 0.7]])), torch.tensor([[[-0.6], [0.6]]]),
                    torch.tensor([[[0.05], [0.2]]]))  # fmt: skip
    return OracleDensity(1, lambda obs: Mixture(*(p.expand(len(obs), *p.shape[1:]) for p in modes)))


@pytest.mark.parametrize("kind", ["mdn", "oracle"])
def test_a_density_integrates_to_one(kind):
    law, grid = one_dimensional(kind), torch.linspace(-3, 3, 6001)[:, None]
    with torch.no_grad():
        height = law.log_prob(torch.full((6001, 1), 0.3), grid).exp()
    assert float(torch.trapezoid(height, grid[:, 0])) == pytest.approx(1, abs=1e-3)


def test_a_flow_integrates_to_one_and_inverts():
    flow = Flow(2, 2, width=8, std_floor=0.05, rng=rng())
    side = torch.linspace(-8, 8, 321)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        height = flow.log_prob(torch.zeros(len(grid), 2), grid).exp().view(321, 321)
    total = torch.trapezoid(torch.trapezoid(height, side), side)
    assert float(total) == pytest.approx(1, abs=1e-3)
    draws = flow.sample(torch.zeros(1, 2), 20_000, rng(1))[:, 0]
    mean = (height * side[:, None]).sum() / height.sum()
    assert float(draws[:, 0].mean()) == pytest.approx(float(mean), abs=0.05)
    with pytest.raises(ConfigError, match="take mdn"):
        Flow(2, 1, width=8, std_floor=0.05, rng=rng())


def test_draws_and_entropy_are_those_of_the_density():
    law, obs = one_dimensional("oracle"), torch.zeros(3, 1)
    draws = law.sample(obs, 20_000, rng(3))
    assert draws.shape == (20_000, 3, 1)
    low = draws[:, 0, 0] < -0.3
    assert float(low.double().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(draws[:, 0, 0][low].std()) == pytest.approx(0.05, rel=0.1)
    grid = torch.linspace(-3, 3, 6001)[:, None]
    log_prob = law.log_prob(torch.zeros(6001, 1), grid)
    exact = -torch.trapezoid(log_prob.exp() * log_prob, grid[:, 0])
    assert law.entropy(obs, 5000, rng(4)).tolist() == pytest.approx([float(exact)] * 3, abs=0.05)


def test_modes_are_counted_and_centres_are_in_the_box():
    def law(mean, weight, std=0.05):
        mean = torch.tensor(mean).view(1, -1, 1)
        parts = Mixture(torch.tensor([weight]).log(), mean, torch.full_like(mean, std))
        return OracleDensity(1, lambda obs: parts)

    obs = torch.zeros(1, 1)
    assert law([-0.6, 0.6, 0.61], [0.5, 0.3, 0.2]).modes(obs).tolist() == [2]
    assert law([-0.6, 0.6], [0.98, 0.02]).modes(obs).tolist() == [1]
    assert law([-0.1, 0.0, 0.1], [0.3, 0.4, 0.3], 0.2).modes(obs).tolist() == [1]
    centres, worth = law([-0.6, 1.04], [0.98, 0.02]).centres(obs, 0, rng())
    assert centres[0, :, 0].tolist() == pytest.approx([-0.6, 1.0])
    assert worth.tolist() == [[True, False]]
    wide = law([-0.6, 0.6], [0.5, 0.5])
    assert wide.within_variance(obs).tolist() == pytest.approx([0.0025])


@pytest.mark.parametrize("m", [1, 2])
def test_a_fit_finds_both_modes_and_knows_its_calibration(m):
    obs, action = two_modes(m=m)
    config = DensityConfig(width=32, steps=500, batch=128)
    density, report = fit_density(obs, action, config, Streams(0))
    entropy = math.log(2) + m * 0.5 * math.log(2 * math.pi * math.e * 0.05**2)
    assert report.held_out_nll == pytest.approx(entropy, abs=0.35)
    assert report.train_nll == pytest.approx(report.held_out_nll, abs=0.15)
    assert set(density.modes(obs[:100]).tolist()) == {2}
    assert not any(p.requires_grad for p in density.parameters())
    level = calibration_levels(density, obs[:1000], action[:1000], rng(5))
    assert level.mean() == pytest.approx(0.5, abs=0.08)


def test_a_single_gaussian_lies_between_the_modes():
    obs, action = two_modes()
    density, report = fit_density(
        obs, action, DensityConfig(kind="gaussian", width=32, steps=400, batch=128), Streams(0)
    )
    law = density.mixture(obs[:50])
    assert law.mean.shape == (50, 1, 1)
    assert float(law.mean.abs().mean()) < 0.15
    assert float(law.std.mean()) == pytest.approx(0.6, abs=0.1)
    assert report.held_out_nll == pytest.approx(
        0.5 * math.log(2 * math.pi * math.e * 0.36), abs=0.1
    )


def test_the_autoencoders_bound_is_a_bound_and_more_draws_are_closer():
    obs, action = two_modes()
    density, _ = fit_density(
        obs, action, DensityConfig(kind="cvae", width=32, steps=750, batch=128), Streams(0)
    )
    assert isinstance(density, CVAE)
    one = CVAE(2, 1, width=32, std_floor=0.05, draws=1, rng=rng())
    weights = density.state_dict()
    one.load_state_dict({k: v if k != "noise" else v[:1] for k, v in weights.items()})
    with torch.no_grad():
        loose = float(one.log_prob(obs, action).mean())
        tight = float(density.log_prob(obs, action).mean())
        between = float(density.log_prob(obs, torch.zeros_like(action)).mean())
    exact = -(math.log(2) + 0.5 * math.log(2 * math.pi * math.e * 0.05**2))
    assert loose < tight + 0.01
    assert tight < exact + 0.1
    assert between < tight - 1.5
    draws = density.sample(obs[:200], 10, rng(6))
    assert float((draws.abs() - 0.6).abs().mean()) < 0.25


def test_constant_actions_fall_back_to_the_floor():
    obs = torch.randn(600, 2, generator=rng())
    with pytest.warns(UserWarning, match="all actions are equal"):
        density, report = fit_density(
            obs, torch.full((600, 1), 0.3), DensityConfig(width=16, steps=400, batch=64), Streams(0)
        )
    law = density.mixture(obs)
    assert law.std.min() >= 0.05
    assert law.mean.mean() == pytest.approx(0.3, abs=0.03)
    assert math.isfinite(report.held_out_nll)


def test_fewer_distinct_actions_than_components_are_warned_about():
    obs = torch.randn(300, 2, generator=rng())
    action = torch.randint(3, (300, 1), generator=rng()) / 2 - 0.5
    with pytest.warns(UserWarning, match="3 distinct actions"):
        density, _ = fit_density(obs, action, DensityConfig(width=16, steps=50), Streams(0))
    assert density.components == 3


def test_a_likelihood_that_is_not_finite_stops_the_fit():
    obs, action = two_modes(100)
    with pytest.raises(NumericsError, match="likelihood is"):
        fit_density(obs * torch.inf, action, DensityConfig(width=16, steps=1), Streams(0))


def test_k_means_finds_what_is_far_apart():
    rows = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]]).repeat(50, 1)
    rows += 0.1 * torch.randn(rows.shape, generator=rng())
    found = k_means(rows, 3, rng(1))
    assert sorted(map(tuple, found.round().abs().tolist())) == [(0, 0), (0, 5), (5, 0)]
