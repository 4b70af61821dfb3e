"""The reverse KL against closed forms; weights; the scale of Q."""

import math

import pytest
import torch

from esscher.offline.densities.mixture import Mixture, OracleDensity
from esscher.offline.regularise import (
    clipped_penalty,
    entropy_weight,
    q_scale,
    relative_weight,
    reverse_kl,
)


def fixed(mean, std, weight=(1.0,)):
    """An oracle with the same mixture in every state: mean and std [K, m]."""
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (mean, std))
    weight = torch.tensor(weight, dtype=torch.float64)

    def mixture(obs):
        n = len(obs)
        return Mixture(
            weight.log().expand(n, -1), mean.expand(n, *mean.shape), std.expand(n, *std.shape)
        )

    return OracleDensity(mean.shape[1], mixture)


def slope(density, action, **settings):
    action = action.clone().requires_grad_()
    value = reverse_kl(density, torch.zeros(len(action), 1), action, **settings)
    (found,) = torch.autograd.grad(value.sum(), action)
    return value.detach(), found


def test_the_gradient_of_a_gaussian_is_the_distance_over_the_variance():
    density = fixed([[0.2, -0.4]], [[0.1, 0.3]])
    action = (
        torch.rand(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    )
    _, found = slope(density, action)
    mean, variance = torch.tensor([0.2, -0.4]), torch.tensor([0.01, 0.09])
    assert torch.allclose(found, (action - mean) / variance / 2, atol=1e-6)


def test_the_gradient_of_a_mixture_goes_to_the_nearest_mode():
    density = fixed([[-0.6], [0.6]], [[0.05], [0.05]], (0.5, 0.5))
    _, found = slope(density, torch.tensor([[0.5], [-0.5], [0.1]], dtype=torch.float64))
    # Down the slope is towards +0.6, -0.6 and, from 0.1, still to +0.6: never to the mean 0.
    assert (found[:, 0] < 0).tolist() == [True, False, True]
    assert found[0, 0].item() == pytest.approx((0.5 - 0.6) / 0.0025, rel=1e-6)


def test_its_mean_is_the_closed_form_up_to_the_policys_entropy():
    std, mean, wide = 0.1, [[0.1, -0.2]], [[0.2, 0.4]]
    density = fixed(mean, wide)
    action = torch.tensor([[0.3, 0.3]], dtype=torch.float64).expand(100_000, 2)
    rng = torch.Generator().manual_seed(1)
    value, _ = slope(density, action, std=std, rng=rng)
    entropy = 2 * 0.5 * math.log(2 * math.pi * math.e * std**2)
    estimate = 2 * float(value.mean()) - entropy
    exact = sum(
        0.5 * ((mu - m) ** 2 / v**2 + std**2 / v**2 - 1 - math.log(std**2 / v**2))
        for mu, m, v in zip((0.3, 0.3), mean[0], wide[0], strict=True)
    )
    assert estimate == pytest.approx(exact, rel=0.02)


def test_the_gradient_is_clipped_sample_by_sample():
    density = fixed([[0.0]], [[0.05]])
    action = torch.tensor([[0.001], [0.5]], dtype=torch.float64)
    value, found = slope(density, action, clip=10.0)
    assert found[:, 0].tolist() == pytest.approx([0.001 / 0.0025, 10.0])
    assert value.tolist() == pytest.approx(slope(density, action)[0].tolist())


def test_a_penalty_has_the_value_and_the_slope_it_is_given():
    action = torch.tensor([[1.0, 2.0]], requires_grad=True)
    found = clipped_penalty(torch.tensor([7.0]), torch.tensor([[3.0, 4.0]]), action, 2.5)
    assert found.item() == 7.0
    (grad,) = torch.autograd.grad(found.sum(), action)
    assert grad.tolist() == [[1.5, 2.0]]


def test_weights_have_mean_one_and_favour_the_narrow():
    entropy = torch.tensor([-2.0, 0.0, 0.0, 2.0])
    weight = entropy_weight(entropy, 1, beta=1.0, low=0.1, high=10.0)
    raw = torch.tensor([math.e**2, 1.0, 1.0, math.e**-2])
    assert torch.allclose(weight, raw / raw.mean())
    assert torch.allclose(
        entropy_weight(entropy, 2, beta=1.0, low=0.1, high=10.0),
        relative_weight(-entropy / 2, 0.1, 10.0),
    )
    clipped = relative_weight(torch.tensor([-9.0, 9.0]), 0.1, 10.0)
    assert clipped.tolist() == pytest.approx([0.1 / 5.05, 10 / 5.05])


def test_two_narrow_modes_weigh_as_much_as_one_though_their_variance_is_large():
    rng = torch.Generator().manual_seed(2)
    two = fixed([[-0.6], [0.6]], [[0.05], [0.05]], (0.5, 0.5))
    wide = fixed([[0.0]], [[0.58]])
    entropy = [law.entropy(torch.zeros(1, 1), 4000, rng).item() for law in (two, wide)]
    # Both have the variance of the uniform law on the box, about a third.
    assert entropy[0] < entropy[1] - 1.5


def test_the_scale_of_q_is_bounded_where_q_is_near_zero():
    assert q_scale(torch.tensor([2.0, -6.0]), 2.5) == pytest.approx(2.5 / 4)
    assert q_scale(torch.zeros(3), 2.5) == 250
