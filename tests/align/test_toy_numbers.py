"""Known numbers of the enumerable world, each recomputed here."""

import math

import pytest
import torch

from esscher.core import (
    DIVERGENCES,
    Condition,
    Moments,
    Reward,
    Target,
    acceptance_curve,
    advantages,
    exact,
    fit_moments,
    log_z_bounds,
)
from esscher.errors import InfeasibleMomentsError
from esscher.kit.lm.tabular import TabularLM
from tests.align import worlds

LOG_Z = 0.4771333874


def has(token):
    return lambda items: [token in s for s in items]


def test_the_world():
    p0, p = worlds.log_prior(), worlds.posterior()
    assert len(p0) == 364
    assert float(p0.exp() @ worlds.rewards()) == pytest.approx(0.0770, abs=5e-5)
    assert float(p.exp() @ worlds.rewards()) == pytest.approx(0.4984, abs=5e-5)
    assert worlds.toy().table().log_z == pytest.approx(LOG_Z, abs=1e-9)
    assert float(exact(DIVERGENCES["forward_kl"], p0, p)) == pytest.approx(0.5197, abs=5e-5)
    assert float(exact(DIVERGENCES["reverse_kl"], p0, p)) == pytest.approx(0.3231, abs=5e-5)
    assert -float(p0.exp() @ p0) == pytest.approx(2.330, abs=5e-4)
    assert -float(p.exp() @ p) == pytest.approx(3.765, abs=5e-4)


@pytest.mark.parametrize("seed", range(5))
def test_the_objective_of_kl_regularised_rl(seed):
    """J(π) = E_π[r] - β KL(π‖p0) = β (log Z - KL(π‖p*)) for every policy, so max J = β log Z."""
    log_pi = worlds.posterior() if seed == 0 else worlds.perturbed(seed).log_prob(worlds.outcomes())
    pi = log_pi.exp()
    kl = float(exact(DIVERGENCES["reverse_kl"], log_pi, worlds.posterior()))
    j = float(pi @ worlds.rewards()) - worlds.BETA * float(pi @ (log_pi - worlds.log_prior()))
    log_z = worlds.toy().table().log_z
    assert j == pytest.approx(worlds.BETA * (log_z - kl), abs=1e-10)
    assert (kl < 1e-12) == (seed == 0)


def test_conditioning():
    """Hard evidence: KL(p*‖p0) = -log Z and TVD(p*, p0) = 1 - Z."""
    table = worlds.hard().table()
    z = math.exp(table.log_z)
    assert z == pytest.approx(0.2379, abs=1e-4)
    assert table.kl(Target(worlds.prior()).table()) == pytest.approx(-table.log_z, abs=1e-12)
    assert worlds.tvd(table.log_probs, worlds.log_prior()) == pytest.approx(1 - z, abs=1e-12)


def variance_traces(policy, log_q):
    """Trace of the covariance of the forward-KL gradient, without and with the baseline π/q."""
    log_pi = policy.log_probs()
    score = torch.stack([worlds.gradient(v, policy).flatten() for v in log_pi])
    log_pi = log_pi.detach()
    log_q = log_pi if log_q is None else log_q
    inputs = {
        "log_pi": log_pi,
        "log_q": log_q,
        "log_target": worlds.toy().log_density(worlds.outcomes()),
        "log_z": worlds.toy().table().log_z,
    }
    q, traces = log_q.exp(), []
    for baseline in ("none", "analytic"):
        a = advantages(DIVERGENCES["forward_kl"], **inputs, baseline=baseline)
        # E|a s|² - |E a s|², with E a s one product.
        mean = (q * a) @ score
        traces.append(float((q * a**2) @ (score**2).sum(1) - mean @ mean))
    return traces


def midway():
    """The prior after 15 exact reverse-KL steps of Adam at 0.05: "midway"."""
    policy = worlds.prior().clone()
    optimiser = torch.optim.Adam(policy.module().parameters(), lr=0.05)
    for _ in range(15):
        optimiser.zero_grad()
        loss = exact(DIVERGENCES["reverse_kl"], policy.log_probs(), worlds.posterior())
        torch.autograd.backward(loss)
        optimiser.step()
    return policy


def test_the_baseline_cuts_the_variance():
    plain, better = variance_traces(worlds.prior().clone(), None)
    assert (plain, better) == pytest.approx((16.0, 12.64), abs=0.05)
    plain, better = variance_traces(midway(), None)
    assert (plain, better) == pytest.approx((2.277, 0.1501), rel=2e-3)
    assert plain / better >= 10
    plain, better = variance_traces(midway(), worlds.log_prior())
    assert (plain, better) == pytest.approx((11.66, 0.995), rel=2e-3)
    assert plain / better >= 10


def weights_of(log_probs, n, seed):
    rng = worlds.seeded(seed)
    x = torch.multinomial(log_probs.exp(), n, replacement=True, generator=rng)
    return worlds.toy().log_weight(x)


@pytest.mark.parametrize(
    ("k", "low", "high"),
    [(1, 0.153, 1.000), (4, 0.304, 0.706), (16, 0.406, 0.551), (64, 0.456, 0.500)],
)
def test_bounds_on_log_z(k, low, high):
    """Weights of prior draws are the evidence itself; exact draws close the sandwich."""
    n = 256_000
    from_prior = weights_of(worlds.log_prior(), n, k)
    from_target = weights_of(worlds.posterior(), n // k, k + 1)
    lower, upper = log_z_bounds(from_prior, from_target, k)
    assert abs(lower.mean - low) < 4 * lower.se + 6e-4
    assert abs(upper.mean - high) < 4 * upper.se + 6e-4
    assert lower.mean < LOG_Z < upper.mean
    if k == 64:
        assert upper.mean - lower.mean < 0.06


def test_quasi_rejection_from_the_prior():
    log_w = worlds.toy().log_weight(worlds.outcomes())
    p0 = worlds.log_prior()
    for bound, acceptance, tvd in ((1, 0.911, 0.316), (4, 0.316, 0.184), (16, 0.098, 0.026)):
        capped = log_w.clamp(max=math.log(bound))
        law = torch.log_softmax(p0 + capped, 0)
        found = math.exp(float(torch.logsumexp(p0 + capped, 0))) / bound
        assert found == pytest.approx(acceptance, abs=5e-4)
        assert worlds.tvd(law, worlds.posterior()) == pytest.approx(tvd, abs=5e-4)
    # No outcome weighs more than exp(4.5), so from there on it is plain rejection.
    law = torch.log_softmax(p0 + log_w.clamp(max=4.5), 0)
    assert worlds.tvd(law, worlds.posterior()) < 1e-12


def test_quasi_rejection_estimates():
    log_w = weights_of(worlds.log_prior(), 20_000, 5)
    bounds = [math.log(b) for b in (1, 4, 16)]
    rows = acceptance_curve(log_w, bounds)
    for row, acceptance, tvd in zip(rows, (0.9114, 0.3156, 0.0981), (0.3162, 0.1836, 0.0259),
                                    strict=True):  # fmt: skip
        assert abs(row.acceptance.mean - acceptance) < 3 * row.acceptance.se
        assert abs(row.tvd.mean - tvd) < 3 * row.tvd.se
    assert rows[0].tvd.mean > rows[1].tvd.mean > rows[2].tvd.mean


def exact_moments(means):
    """Moments of "has a 0" and "has a 2", fitted on all outcomes weighted by the prior."""
    items = worlds.prior().items(worlds.outcomes())
    phi = torch.tensor([has(0)(items), has(2)(items)], dtype=torch.float64).T
    return phi, fit_moments(phi, means, worlds.log_prior(), names=["has 0", "has 2"])


def test_moments():
    _, fit = exact_moments([0.5, 0.8])
    assert fit.coefficients.tolist() == pytest.approx([0.0877, 2.5052], abs=1e-3)
    assert fit.achieved.tolist() == pytest.approx([0.5, 0.8], abs=1e-10)
    assert fit.iterations <= 10


def test_moments_are_the_closest_law():
    """The I-projection: KL(p‖p0) of any other law with these means is larger."""
    phi, fit = exact_moments([0.5, 0.8])
    log_p = torch.log_softmax(worlds.log_prior() + phi @ fit.coefficients, 0)
    p, p0 = log_p.exp(), worlds.log_prior()
    best = float(p @ (log_p - p0))
    ones = torch.ones(len(p), dtype=torch.float64)
    constraints, _ = torch.linalg.qr(torch.cat([ones[:, None], phi], 1))
    for seed in range(5):
        step = torch.randn(len(p), generator=worlds.seeded(seed), dtype=torch.float64)
        step = step - constraints @ (constraints.T @ step)
        other = p + step * 0.5 * float((p / step.abs()).min())
        assert torch.allclose(other @ phi, p @ phi, atol=1e-12)
        assert float(other @ (other.log() - p0)) > best


def test_moments_out_of_reach():
    with pytest.raises(InfeasibleMomentsError, match=r"'has 0' wanted 1\.2, observed 0 to 1"):
        exact_moments([1.2, 0.8])


def test_a_moment_of_one_is_a_condition():
    phi, fit = exact_moments([0.5, 1.0])
    assert fit.hard == {"has 2": 1.0}
    assert fit.achieved.tolist() == pytest.approx([0.5, 1.0], abs=1e-10)
    target = Target(worlds.prior(), Moments({"has 0": 0.5, "has 2": 1.0},
                                            {"has 0": has(0), "has 2": has(2)}))  # fmt: skip
    fitted = target.fit_moments(20_000, rng=worlds.seeded(0)).table()
    assert float(fitted.probs @ phi[:, 1]) == pytest.approx(1.0, abs=1e-12)
    assert float(fitted.probs @ phi[:, 0]) == pytest.approx(0.5, abs=0.03)
    both = Target(worlds.prior(), Condition(has(2)), Moments({"a": 0.5}, {"a": has(0)}))
    same = both.fit_moments(20_000, rng=worlds.seeded(0)).table()
    assert torch.allclose(same.log_probs.exp(), fitted.probs, atol=1e-12)


def test_soft_predicates_tend_to_hard_ones():
    """Spec 2.1, with the predicate "has a 0"."""
    hard = worlds.posterior(Target(worlds.prior(), Condition(has(0))))
    for beta, tvd in ((1.0, 6.0e-1), (0.5, 3.6e-1), (0.2, 2.7e-2), (0.1, 1.9e-4), (0.05, 8.5e-9)):
        soft = worlds.posterior(Target(worlds.prior(), Reward(has(0), beta=beta)))
        assert worlds.tvd(soft, hard) == pytest.approx(tvd, rel=0.02)


def test_of_log_probs_gives_back_a_model():
    model = worlds.of_log_probs(worlds.posterior())
    assert isinstance(model, TabularLM)
    assert torch.allclose(model.log_prob(worlds.outcomes()), worlds.posterior(), atol=1e-12)
