import math

import pytest
import torch

from esscher.core import (
    DIVERGENCES,
    Estimate,
    Table,
    divergence_snis,
    exact,
    js,
    kl_model_target,
    kl_target_model,
    kl_target_model_snis,
    log_z,
    tvd,
)
from esscher.errors import NumericsError, ShapeError
from tests.worlds import random_law, seeded

PAIRS, REPEATS, N, OUTCOMES = 200, 4, 2000, 40


def pair(seed):
    """A target with log Z = 1.3, a model near it, and a prior that covers both."""
    prior = random_law(OUTCOMES, 3 * seed)
    p = torch.log_softmax(prior + 0.8 * torch.randn(OUTCOMES, generator=seeded(3 * seed + 1)), 0)
    pi = torch.log_softmax(p + 0.6 * torch.randn(OUTCOMES, generator=seeded(3 * seed + 2)), 0)
    return Table(pi), Table(p), Table(prior), 1.3


def estimates(pi, p, prior, shift, rng):
    """Every estimator with draws of its own, next to the law that makes it exact."""
    target = p.log_probs + shift
    a, b, q = (law.sample(N, rng=rng).x for law in (pi, p, prior))
    fresh = prior.sample(N, rng=rng).x
    z = log_z(target[fresh] - prior.log_probs[fresh])
    on_pi = (pi.log_probs[a], target[a])
    on_q = (pi.log_probs[q], prior.log_probs[q], target[q])
    return {
        "log_z": z,
        "kl_model_target, Z known": kl_model_target(*on_pi, shift),
        "kl_model_target, Z estimated": kl_model_target(*on_pi, z),
        "kl_model_target, same draws": kl_model_target(*on_pi),
        "kl_target_model, Z known": kl_target_model(target[b], pi.log_probs[b], shift),
        "kl_target_model, Z estimated": kl_target_model(target[b], pi.log_probs[b], z),
        "kl_target_model_snis": kl_target_model_snis(*on_q),
        "tvd, same draws": tvd(*on_q),
        "tvd, Z estimated": tvd(*on_q, z),
        "js": js(on_pi, (pi.log_probs[b], target[b]), z),
        "hellinger, same draws": divergence_snis(DIVERGENCES["hellinger"], *on_q),
    }


def truth(name, pi, p, shift):
    if name == "log_z":
        return shift
    key = {
        "kl_m": "reverse_kl",
        "kl_t": "forward_kl",
        "tvd,": "tv",
        "js": "js",
        "hell": "hellinger",
    }[name[:4]]
    return float(exact(DIVERGENCES[key], pi.log_probs, p.log_probs))


def test_intervals_cover_at_their_nominal_rate():
    hits = {}
    for seed in range(PAIRS):
        pi, p, prior, shift = pair(seed)
        rng = seeded(10_000 + seed)
        for _ in range(REPEATS):
            for name, e in estimates(pi, p, prior, shift, rng).items():
                low, high = e.interval()
                hits.setdefault(name, []).append(low <= truth(name, pi, p, shift) <= high)
    coverage = {name: sum(h) / len(h) for name, h in hits.items()}
    print(coverage)
    assert all(0.92 <= c <= 0.98 for c in coverage.values()), coverage


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_every_divergence_is_estimated_consistently(name):
    pi, p, prior, shift = pair(1)
    x = prior.sample(200_000, rng=seeded(0)).x
    target = p.log_probs + shift
    e = divergence_snis(DIVERGENCES[name], pi.log_probs[x], prior.log_probs[x], target[x])
    value = float(exact(DIVERGENCES[name], pi.log_probs, p.log_probs))
    assert abs(e.mean - value) < 4 * e.se
    assert e.se < 0.05 * value


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_errors_agree_with_the_jackknife(name):
    pi, p, prior, shift = pair(2)
    x = prior.sample(400, rng=seeded(5)).x
    inputs = (pi.log_probs[x], prior.log_probs[x], p.log_probs[x] + shift)
    without = []
    for i in range(400):
        rest = torch.arange(400) != i
        without.append(divergence_snis(DIVERGENCES[name], *(v[rest] for v in inputs)).mean)
    means = torch.tensor(without, dtype=torch.float64)
    jackknife = math.sqrt(399 / 400 * float(((means - means.mean()) ** 2).sum()))
    assert divergence_snis(DIVERGENCES[name], *inputs).se == pytest.approx(jackknife, rel=0.03)


def test_zero_mass_on_either_side():
    prior = torch.full((4,), 0.25, dtype=torch.float64).log()
    pi = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64).log()
    target = torch.tensor([0.0, 0.5, 0.5, 0.0], dtype=torch.float64).log()
    # Each outcome once is an exact expectation under the uniform proposal.
    assert tvd(pi, prior, target).mean == pytest.approx(0.5)
    assert divergence_snis(DIVERGENCES["hellinger"], pi, prior, target).mean == pytest.approx(1.0)
    assert divergence_snis(DIVERGENCES["js"], pi, prior, target).mean == pytest.approx(
        float(exact(DIVERGENCES["js"], pi, target))
    )
    assert kl_target_model_snis(pi, prior, target).mean == math.inf
    assert kl_model_target(pi[:2], target[:2], 0.0).mean == math.inf
    assert kl_target_model(target[1:3], pi[1:3], 0.0).mean == math.inf
    assert kl_model_target(pi[:2], target[:2]).to_json()["mean"] is None


def test_js_of_disjoint_laws_is_log_2():
    here = (torch.zeros(5), torch.full((5,), -torch.inf))
    there = (torch.full((5,), -torch.inf), torch.zeros(5))
    assert js(here, there, 0.0).mean == pytest.approx(math.log(2))


def test_far_laws_do_not_overflow():
    near, far = torch.tensor([-1.0, -1.0]), torch.tensor([-1001.0, -1001.0])
    assert kl_target_model(near, far, 0.0).mean == 1000.0
    assert kl_target_model_snis(far, near, near).mean == 1000.0
    assert kl_target_model_snis(near, far, far).mean == -1000.0
    assert divergence_snis(DIVERGENCES["reverse_kl"], near, near, far, 0.0).mean == 1000.0
    assert tvd(far, near, near).mean == 0.5


def test_the_error_of_z_is_propagated():
    log_pi, log_target = random_law(50, 0), random_law(50, 1)
    exact_z = kl_model_target(log_pi, log_target, 0.0)
    uncertain = kl_model_target(log_pi, log_target, Estimate(0.0, 0.3, 10))
    assert uncertain.mean == exact_z.mean
    assert uncertain.se == pytest.approx(math.hypot(exact_z.se, 0.3))


def test_bad_input():
    v = torch.zeros(3)
    with pytest.raises(ShapeError, match=r"\(3,\) and \(2,\)"):
        kl_model_target(v, torch.zeros(2), 0.0)
    with pytest.raises(NumericsError, match="log-probability 1 is nan"):
        tvd(torch.tensor([0.0, torch.nan, 0.0]), v, v)
    with pytest.raises(NumericsError, match="log_z must be finite"):
        kl_target_model(v, v, math.inf)
