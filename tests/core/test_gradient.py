import itertools
import math

import pytest
import torch

from esscher.core import DIVERGENCES, Target, advantages, alpha_divergence, exact
from esscher.errors import ConfigError, NumericsError, ShapeError
from tests.worlds import (
    conditional_logits,
    prior_logits,
    random_law,
    sequence_log_probs,
    toy_posterior,
    toy_prior,
    toy_target,
)

ALL = [*DIVERGENCES.values(), *(alpha_divergence(a) for a in (-1.0, 0.5, 2.0))]
each = pytest.mark.parametrize("divergence", ALL, ids=lambda d: d.name)
off_policy = pytest.mark.parametrize("off_policy", [False, True], ids=["on", "off"])
LOG_Z = 1.7


def world(n, seed):
    """A model with parameters, a target (unnormalised by LOG_Z) and a proposal on n outcomes."""
    logits = random_law(n, seed, 1.5).requires_grad_()
    return logits, random_law(n, seed + 1, 1.5) + LOG_Z, random_law(n, seed + 2)


def exact_gradient(divergence, logits, log_target):
    value = exact(divergence, torch.log_softmax(logits, 0), log_target - LOG_Z)
    return torch.autograd.grad(value, logits)[0]


def score(logits):
    """[N, P] gradient of log pi for every outcome: the identity minus pi."""
    return torch.eye(len(logits), dtype=torch.float64) - torch.softmax(logits.detach(), 0)


def expected_gradient(divergence, logits, log_target, log_q, size, **settings):
    """The loss gradient averaged over every batch of this size that q can draw."""
    n = len(logits)
    batches = torch.tensor(list(itertools.product(range(n), repeat=size)))
    x = batches.flatten()
    pi = torch.log_softmax(logits.detach(), 0)
    q = pi if log_q is None else log_q
    a = advantages(
        divergence,
        log_pi=pi[x],
        log_q=None if log_q is None else log_q[x],
        log_target=log_target[x],
        log_z=LOG_Z,
        groups=torch.arange(len(batches)).repeat_interleave(size),
        **settings,
    )
    weight = q[batches].sum(1).exp().repeat_interleave(size) / size
    return -(weight * a) @ score(logits)[x]


def relative_error(a, b):
    return float((a - b).norm() / b.norm())


@each
@off_policy
def test_without_baseline_it_is_the_gradient(divergence, off_policy):
    logits, log_target, log_q = world(12, 0)
    q = log_q if off_policy else None
    got = expected_gradient(divergence, logits, log_target, q, 1, baseline="none")
    assert relative_error(got, exact_gradient(divergence, logits, log_target)) < 1e-8


@each
@off_policy
@pytest.mark.parametrize("size", [2, 3])
def test_leave_one_out_is_unbiased(divergence, off_policy, size):
    logits, log_target, log_q = world(6, 10)
    q = log_q if off_policy else None
    got = expected_gradient(divergence, logits, log_target, q, size, baseline="loo")
    assert relative_error(got, exact_gradient(divergence, logits, log_target)) < 1e-8


@off_policy
def test_analytic_baseline_is_unbiased(off_policy):
    logits, log_target, log_q = world(12, 20)
    divergence = DIVERGENCES["forward_kl"]
    q = log_q if off_policy else None
    got = expected_gradient(divergence, logits, log_target, q, 1, baseline="analytic")
    assert relative_error(got, exact_gradient(divergence, logits, log_target)) < 1e-8


@each
def test_where_the_target_has_no_mass(divergence):
    logits, log_target, log_q = world(6, 30)
    log_target[2] = -torch.inf
    log_target = torch.log_softmax(log_target, 0) + LOG_Z
    if divergence.needs_floor:
        with pytest.raises(NumericsError, match=r"no mass; use target\.with_floor"):
            expected_gradient(divergence, logits, log_target, log_q, 1, baseline="none")
        return
    got = expected_gradient(divergence, logits, log_target, log_q, 2, baseline="loo")
    assert relative_error(got, exact_gradient(divergence, logits, log_target)) < 1e-8


def test_the_loss_descends():
    divergence = DIVERGENCES["js"]
    logits, log_target, _ = world(12, 40)
    pi = torch.log_softmax(logits, 0)
    a = advantages(divergence, log_pi=pi, log_target=log_target, log_z=LOG_Z, baseline="none")
    assert not a.requires_grad
    # All outcomes at once, weighted by their probability: the expectation of the batch loss.
    loss = -(pi.exp().detach() * a * pi).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    before = exact(divergence, pi.detach(), log_target - LOG_Z)
    stepped = torch.log_softmax(logits.detach() - 0.1 * gradient, 0)
    assert float(exact(divergence, stepped, log_target - LOG_Z)) < float(before)


def test_plain_leave_one_out_by_hand():
    log_pi, log_target = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-2.0, -2.0, -1.0])
    reward = -(log_pi - log_target + 1)
    expected = [float(reward[i] - (reward.sum() - reward[i]) / 2) for i in range(3)]
    a = advantages(DIVERGENCES["reverse_kl"], log_pi=log_pi, log_target=log_target)
    assert a.tolist() == pytest.approx(expected)


def test_reverse_kl_ignores_log_z_and_constant_rewards_give_zero():
    log_pi = random_law(8, 0)
    kl = DIVERGENCES["reverse_kl"]
    with_z = advantages(kl, log_pi=log_pi, log_target=random_law(8, 1), log_z=3.0)
    without = advantages(kl, log_pi=log_pi, log_target=random_law(8, 1))
    assert torch.allclose(with_z, without, atol=1e-12)
    same = advantages(kl, log_pi=log_pi, log_target=log_pi + 2.0)
    assert float(same.abs().max()) < 1e-12


def test_log_z_by_sample_and_groups_are_independent():
    log_pi, log_target = random_law(6, 0), random_law(6, 1)
    log_z, groups = torch.tensor([0.0, 0.0, 0.0, 2.0, 2.0, 2.0]), torch.tensor([7, 7, 7, 1, 1, 1])
    js = DIVERGENCES["js"]
    both = advantages(js, log_pi=log_pi, log_target=log_target, log_z=log_z, groups=groups)
    for rows, z in ((slice(0, 3), 0.0), (slice(3, 6), 2.0)):
        one = advantages(js, log_pi=log_pi[rows], log_target=log_target[rows], log_z=z)
        assert torch.allclose(both[rows], one, atol=1e-12)


def test_no_overflow_where_the_policy_left_the_proposal():
    log_pi = torch.tensor([-1000.0, -1.0], dtype=torch.float64)
    log_q = torch.tensor([-1.0, -1.0], dtype=torch.float64)
    a = advantages(
        DIVERGENCES["forward_kl"],
        log_pi=log_pi, log_q=log_q, log_target=log_q, log_z=0.0, baseline="none",
    )  # fmt: skip
    assert a.tolist() == pytest.approx([1.0, 1.0])


def covariance_trace(a, log_q, gradients):
    q = log_q.exp()
    terms = a[:, None] * gradients
    mean = q @ terms
    return float(q @ (terms**2).sum(1) - (mean**2).sum())


@pytest.mark.parametrize(("way", "factor"), [(0.0, 1.3), (0.5, 3.5), (0.75, 10.0)])
@off_policy
def test_baseline_cuts_the_variance(way, factor, off_policy):
    start = torch.log_softmax(prior_logits(), 1)
    end = conditional_logits(toy_posterior().log_probs)
    logits = ((1 - way) * start + way * end).requires_grad_()
    log_pi = sequence_log_probs(logits)
    gradients = torch.stack(
        [torch.autograd.grad(lp, logits, retain_graph=True)[0].flatten() for lp in log_pi]
    )
    log_pi = log_pi.detach()
    mixture = torch.logaddexp(log_pi, toy_prior().log_probs) - math.log(2)
    log_q = mixture if off_policy else log_pi
    inputs = {
        "log_pi": log_pi,
        "log_q": log_q,
        "log_target": toy_target().log_density(torch.arange(364)),
        "log_z": toy_posterior().log_z,
    }
    forward = DIVERGENCES["forward_kl"]
    plain = advantages(forward, **inputs, baseline="none")
    better = advantages(forward, **inputs, baseline="analytic")
    ratio = covariance_trace(plain, log_q, gradients) / covariance_trace(better, log_q, gradients)
    assert ratio >= factor, ratio


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"log_z": None}, ConfigError, "needs log_z"),
        ({"log_z": math.nan}, NumericsError, "log_z must be finite"),
        ({"log_z": torch.zeros(3)}, ShapeError, "log_z"),
        ({"baseline": "mean"}, ConfigError, "'loo', 'analytic' or 'none', got 'mean'"),
        ({"baseline": "analytic"}, ConfigError, "forward_kl only, got js"),
        ({"groups": torch.tensor([0, 0, 0, 5])}, ConfigError, "group 5 has one"),
        ({"groups": torch.zeros(3)}, ShapeError, "groups"),
        ({"log_q": torch.zeros(3)}, ShapeError, "log_q"),
        ({"log_q": torch.tensor([0.0, -torch.inf, 0, 0])}, NumericsError, "sample 1"),
        ({"log_pi": torch.tensor([0.0, 0, -torch.inf, 0])}, NumericsError, "log_pi is -inf"),
        ({"log_target": torch.tensor([0.0, torch.nan, 0, 0])}, NumericsError, "log_target"),
    ],
)
def test_bad_input(changes, error, message):
    inputs = {"log_pi": torch.zeros(4), "log_target": torch.zeros(4), "log_z": 0.0}
    with pytest.raises(error, match=message):
        advantages(DIVERGENCES["js"], **(inputs | changes))


def test_overflow_is_an_error_not_an_infinity():
    with pytest.raises(NumericsError, match="beyond float64"):
        advantages(
            DIVERGENCES["chi2_forward"],
            log_pi=torch.tensor([-900.0, 0.0], dtype=torch.float64),
            log_target=torch.zeros(2),
            log_z=0.0,
        )


def test_a_floored_target_has_finite_reverse_kl():
    from esscher.core import Condition

    target = Target(toy_prior(), Condition(lambda texts: ["c" in t for t in texts]))
    x = torch.arange(364)
    log_pi = toy_prior().log_probs
    kl = DIVERGENCES["reverse_kl"]
    with pytest.raises(NumericsError, match="with_floor"):
        advantages(kl, log_pi=log_pi, log_target=target.log_density(x))
    floored = advantages(kl, log_pi=log_pi, log_target=target.with_floor(20).log_density(x))
    assert bool(floored.isfinite().all())
