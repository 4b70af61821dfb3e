"""Preference losses against slow references, and their optima where every pair is counted."""

import inspect
import math

import pytest
import torch

from esscher.align.preferences import PREFERENCE_LOSSES, PairBatch, fit_preferences
from esscher.align.preferences.losses import cdpo, dpo, f_dpo, ipo
from tests.align import worlds
from tests.align.preferences import exact

BETA = worlds.BETA
SETTINGS = {
    "dpo": {"beta": 0.7},
    "cdpo": {"beta": 0.7, "smoothing": 0.2},
    "f_dpo": {"beta": 0.7, "divergence": "js"},
    "ipo": {"beta": 0.7},
}
INVERSES = {
    "reverse_kl": (lambda s: torch.exp(s - 1), 100.0),
    "forward_kl": (lambda s: -1 / s, 0.0),
    "js": (lambda s: 1 / (2 * torch.exp(-2 * s) - 1), 0.5 * math.log(2)),
    "alpha:0.5": (lambda s: (1 - s / 2) ** -2, 2.0),
}
"""(f')⁻¹ and what f' stays below, derived by hand."""
MILD = {"reverse_kl": 2.0, "forward_kl": 2.0, "js": 8.0, "alpha:0.5": 2.0}
"""Temperatures at which no ratio π/p0 becomes so large that training takes long."""

each = pytest.mark.parametrize("name", PREFERENCE_LOSSES)


def random_batch(seed=0, n=12, *, at_prior=False):
    rng = worlds.seeded(seed)
    parts = [torch.randn(n, generator=rng, dtype=torch.float64) - 3 for _ in range(4)]
    if at_prior:
        parts[2], parts[3] = parts[0].clone(), parts[1].clone()
    label = torch.rand(n, generator=rng, dtype=torch.float64)
    return PairBatch(parts[0].requires_grad_(), parts[1].requires_grad_(), *parts[2:], label)


def slow_margin(name, row, slope):
    """β times the implicit reward difference of one pair, with torch's own functions."""
    a, b, a0, b0, _ = row
    t, s = torch.exp(a - a0), torch.exp(b - b0)
    if name == "f_dpo":
        return slope(t) - slope(s)
    return torch.log(t) - torch.log(s)


def slow_loss(name, row, *, beta, smoothing=0.0, divergence="js"):
    """The loss of one pair as the papers print it: the preferred text first."""
    del divergence
    label = row[4] * (1 - smoothing) + (1 - row[4]) * smoothing
    h = slow_margin(name, row, lambda t: 0.5 * torch.log(2 * t / (1 + t)))
    if name == "ipo":
        return label * (h - 0.5 / beta) ** 2 + (1 - label) * (-h - 0.5 / beta) ** 2
    win, lose = torch.sigmoid(beta * h), torch.sigmoid(-beta * h)
    return -label * torch.log(win) - (1 - label) * torch.log(lose)


@each
def test_losses_and_gradients_are_those_of_a_slow_reference(name):
    batch, again = random_batch(), random_batch()
    losses = PREFERENCE_LOSSES[name].loss(batch, **SETTINGS[name])
    wanted = torch.stack(
        [slow_loss(name, row, **SETTINGS[name]) for row in zip(*again, strict=True)]
    )
    assert losses.shape == (12,)
    assert torch.allclose(losses, wanted, rtol=1e-12, atol=0)
    got = torch.autograd.grad(losses.sum(), batch[:2])
    slow = torch.autograd.grad(wanted.sum(), again[:2])
    for a, b in zip(got, slow, strict=True):
        assert float(a.abs().min()) > 0
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-14)


@each
def test_a_loss_is_pure_and_says_where_it_is_from(name, no_global_state):
    entry = PREFERENCE_LOSSES[name]
    batch = random_batch(1)
    before = [part.detach().clone() for part in batch]
    one, two = (entry.loss(batch, **SETTINGS[name]).detach() for _ in range(2))
    assert torch.equal(one, two)
    assert all(torch.equal(a, b) for a, b in zip(before, batch, strict=True))
    assert "Reference:" in inspect.getdoc(entry.loss)
    assert set(entry.settings) == set(SETTINGS[name])


@each
def test_swapping_the_texts_and_the_label_changes_nothing(name):
    batch = random_batch(2)
    swapped = PairBatch(batch[1], batch[0], batch[3], batch[2], 1 - batch.label)
    entry, settings = PREFERENCE_LOSSES[name], SETTINGS[name]
    assert torch.allclose(entry.loss(batch, **settings), entry.loss(swapped, **settings))
    assert torch.allclose(entry.margin(batch, **settings), -entry.margin(swapped, **settings))


def test_f_dpo_with_reverse_kl_is_dpo():
    batch, again = random_batch(3), random_batch(3)
    one, two = f_dpo(batch, beta=0.3, divergence="reverse_kl"), dpo(again, beta=0.3)
    assert torch.allclose(one, two, rtol=1e-13, atol=0)
    slopes = [torch.autograd.grad(x.sum(), b[0])[0] for x, b in ((one, batch), (two, again))]
    assert torch.allclose(*slopes, rtol=1e-12, atol=0)


def test_cdpo_without_smoothing_is_dpo():
    batch = random_batch(4)
    assert torch.equal(cdpo(batch, beta=0.3, smoothing=0.0), dpo(batch, beta=0.3))


def test_labels_that_are_half_wrong_leave_the_prior_where_it_is():
    batch = random_batch(5, at_prior=True)
    loss = cdpo(batch, beta=0.3, smoothing=0.5).sum()
    assert all(float(g.abs().max()) == 0 for g in torch.autograd.grad(loss, batch[:2]))
    away = random_batch(5)
    loss = cdpo(away, beta=0.3, smoothing=0.5).sum()
    assert float(torch.autograd.grad(loss, away[0])[0].abs().min()) > 0


def test_ipo_pulls_back_a_margin_beyond_its_goal():
    batch = random_batch(6)._replace(label=torch.ones(12, dtype=torch.float64))
    h = (batch[0] - batch[2] - batch[1] + batch[3]).detach()
    (slope,) = torch.autograd.grad(ipo(batch, beta=0.5).sum(), batch[0])
    assert torch.equal(slope > 0, h > 1.0)
    assert bool((slope > 0).any())
    assert bool((slope < 0).any())


def optimum(objective, pairs, max_len=3, **settings):
    """Log-probabilities of the outcomes where a loss over all pairs is lowest."""
    given = exact.config(**{"objective": objective, "beta": BETA, **settings})
    result = fit_preferences(worlds.prior(max_len), exact.both(pairs), config=given)
    assert result.history[-1]["grad_norm"] < 1e-5
    return result.policy.log_prob(worlds.prior(max_len).enumerate())


def uniform(max_len=3):
    n = len(exact.rewards(max_len))
    return torch.full((n,), -math.log(n), dtype=torch.float64)


def correlated(max_len=3):
    """Pairs that are not drawn independently of each other: mostly outcomes that are neighbours."""
    i, j = torch.triu_indices(*[len(exact.rewards(max_len))] * 2, 1)
    return exact.every_pair(max_len, weight=torch.where(j - i < 6, 1.0, 0.01).double())


@pytest.mark.parametrize(
    ("max_len", "steps"),
    [(3, 400), pytest.param(5, 1200, marks=pytest.mark.slow)],
    ids=["40", "364"],
)
def test_the_optimum_of_dpo_is_the_target(max_len, steps):
    found = optimum("dpo", exact.every_pair(max_len), max_len, steps=steps)
    assert worlds.tvd(found, worlds.toy(max_len).table().log_probs) < 1e-6


@pytest.mark.parametrize("pairs", ["uniform", "correlated"])
def test_the_optimum_of_dpo_does_not_depend_on_the_pairs_compared(pairs):
    given = exact.every_pair(3, uniform()) if pairs == "uniform" else correlated()
    assert worlds.tvd(optimum("dpo", given), worlds.toy(3).table().log_probs) < 1e-6


def test_smoothing_keeps_the_optimum_nearer_to_the_prior():
    prior, target = exact.log_prior(3), worlds.toy(3).table().log_probs
    smooth = optimum("cdpo", exact.every_pair(3), smoothing=0.2)
    assert worlds.tvd(smooth, target) > 0.1
    assert 0.05 < worlds.tvd(smooth, prior) < worlds.tvd(target, prior) - 0.1


def ipo_closed_form(log_mu):
    """p0 exp(P(x ≻ μ)/τ)/Z; a text against itself is a tie."""
    r = exact.rewards(3)
    wins = torch.sigmoid(r[:, None] - r[None, :]) @ log_mu.exp()
    return exact.normalised(exact.log_prior(3) + wins / BETA)


@pytest.mark.parametrize("law", ["prior", "uniform"])
def test_the_optimum_of_ipo_rewards_the_share_of_wins(law):
    mu = uniform() if law == "uniform" else exact.log_prior(3)
    found = optimum("ipo", exact.every_pair(3, mu), steps=600)
    assert worlds.tvd(found, ipo_closed_form(mu)) < 1e-6
    assert worlds.tvd(found, worlds.toy(3).table().log_probs) > 0.1


def test_the_optimum_of_ipo_needs_both_texts_drawn_independently_from_one_law():
    found = optimum("ipo", correlated(), steps=600)
    for mu in (uniform(), exact.log_prior(3)):
        assert worlds.tvd(found, ipo_closed_form(mu)) > 1e-4


def f_dpo_closed_form(divergence, beta):
    """p0 (f')⁻¹((r - λ)/β), λ found by halving: the total mass falls as λ rises."""
    inverse, bound = INVERSES[divergence]
    r, p0 = exact.rewards(3), exact.log_prior(3).exp()
    low, high = float(r.max()) - beta * bound, float(r.max()) + 100.0
    for _ in range(200):
        middle = (low + high) / 2
        mass = float((p0 * inverse((r - middle) / beta)).sum())
        low, high = (middle, high) if mass > 1 else (low, middle)
    return (p0 * inverse((r - high) / beta)).log()


@pytest.mark.parametrize("divergence", INVERSES)
def test_the_optimum_of_f_dpo_is_that_of_another_penalty(divergence):
    beta = MILD[divergence]
    pairs = exact.every_pair(3, uniform())
    found = optimum("f_dpo", pairs, beta=beta, divergence=divergence, steps=600)
    assert worlds.tvd(found, f_dpo_closed_form(divergence, beta)) < 1e-5
    tilt = exact.normalised(exact.log_prior(3) + exact.rewards(3) / beta)
    far = worlds.tvd(found, tilt)
    assert far < 1e-6 if divergence == "reverse_kl" else far > 5e-3


def test_only_dpo_claims_the_target():
    assert [name for name, p in PREFERENCE_LOSSES.items() if p.minimises] == ["dpo"]
    assert all(p.note for p in PREFERENCE_LOSSES.values())
    assert "another target" in PREFERENCE_LOSSES["ipo"].note
