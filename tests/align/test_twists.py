"""Learnt twists against the exact ones of enumerable worlds."""

import itertools
import math

import pytest
import torch

from esscher.align.twists import (
    TWIST_LOSSES,
    TwistBatch,
    TwistConfig,
    learn_twist,
    twist_init,
    twist_step,
)
from esscher.core import Condition, Reward, Target
from esscher.core.importance import effective_sample_size
from esscher.errors import ConfigError, NumericsError, TargetUnreachableError
from esscher.kit.lm.smc import smc
from tests.align import worlds
from tests.kit.lm.models import build, small

each = pytest.mark.parametrize("method", list(TWIST_LOSSES))
TARGETS = {"soft": worlds.toy, "hard": worlds.hard}
on_each_target = pytest.mark.parametrize("kind", list(TARGETS))


def prefix_numbers(lm):
    """[N, T] which prefix every outcome has at each length 1 … T, or -1 beyond its end."""
    items = lm.items(lm.enumerate())
    known = {}
    rows = []
    for ids in items:
        row = [known.setdefault(tuple(ids[: t + 1]), len(known)) for t in range(len(ids))]
        rows.append(row + [-1] * (lm.max_len - len(row)))
    return torch.tensor(rows), len(known)


def exact_batch(target, log_phi, table):
    """Every outcome once, weighted by the prior, with the given log ψ per prefix."""
    lm = target.prior
    at, n = prefix_numbers(lm)
    log_p0 = lm.log_prob(lm.enumerate())
    inside = at >= 0
    psi = torch.where(inside, table[at.clamp(min=0)], log_phi[:, None])
    # Σ_v p0(v | x) ψ(x, v) = Σ over the prefixes one longer, each by its mass.
    mass = torch.zeros(n, dtype=torch.float64)
    for t in range(at.shape[1]):
        mass.index_add_(0, at[inside[:, t], t], log_p0.exp()[inside[:, t]])
    value = log_phi[:, None].repeat(1, at.shape[1])
    children = {}
    for row in at.tolist():
        for a, b in itertools.pairwise(row):
            if b >= 0:
                children.setdefault(a, set()).add(b)
    for i, row in enumerate(at.tolist()):
        for t, p in enumerate(row):
            if p in children:
                kids = torch.tensor(sorted(children[p]))
                total = (mass[kids] * table.detach()[kids].exp()).sum() / mass[kids].sum()
                value[i, t] = total.log()
    log_z = (log_p0 + log_phi).logsumexp(0)
    return TwistBatch(psi, inside, value, log_phi, log_p0, log_z)


def true_twist(target, log_phi):
    lm = target.prior
    at, n = prefix_numbers(lm)
    p0 = lm.log_prob(lm.enumerate()).exp()
    total, mass = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for t in range(at.shape[1]):
        here = at[:, t] >= 0
        total.index_add_(0, at[here, t], (p0 * log_phi.exp())[here])
        mass.index_add_(0, at[here, t], p0[here])
    return (total / mass).log()


@each
@on_each_target
def test_the_true_twist_is_where_the_gradient_vanishes(method, kind):
    target = TARGETS[kind]()
    log_phi = target.log_weight(target.prior.enumerate())
    if kind == "hard":
        log_phi = log_phi.clamp(min=-6.0)
    table = true_twist(target, log_phi).requires_grad_()
    loss = TWIST_LOSSES[method](exact_batch(target, log_phi, table))
    (at_optimum,) = torch.autograd.grad(loss, table)
    assert float(at_optimum.abs().max()) < 1e-12
    rng = worlds.seeded(3)
    noise = 0.3 * torch.randn(len(table), generator=rng, dtype=torch.float64)
    away = (table.detach() + noise).requires_grad_()
    found = TWIST_LOSSES[method](exact_batch(target, log_phi, away))
    (gradient,) = torch.autograd.grad(found, away)
    assert float(gradient.abs().max()) > 1e-4
    # Downhill leads back: the step against the gradient has a positive part along -noise.
    assert float((gradient * noise).sum()) > 0


def particles(target, guide, k, seed):
    lm = target.prior
    return smc(
        lm.network,
        torch.tensor(lm.prompts(None, 1)[0]),
        k,
        lambda x: target.log_weight(lm.of_sequences(x)),
        guide=guide,
        resample_below=0.0,
        max_new=lm.max_new,
        end=lm.end,
        rng=worlds.seeded(seed),
    )


def effective_share(target, guide, k=64, runs=20):
    weights = [particles(target, guide, k, seed).log_weight for seed in range(runs)]
    return sum(effective_sample_size(w) for w in weights) / (k * runs)


def rare(items):
    return [list(ids[:3]) == [1, 2, 1] for ids in items]


def test_half_of_the_draws_led_by_the_twist_meet_rare_evidence_more_often():
    target = Target(worlds.prior(), Condition(rare))
    assert math.exp(target.table().log_z) < 0.01
    shares = {}
    for proposal in ("prior", "mixture"):
        config = TwistConfig("fudge", proposal=proposal, steps=150, batch=64, lr=0.1)
        twist = learn_twist(target, config)
        shares[proposal] = effective_share(target, twist)
    assert shares["mixture"] > shares["prior"] + 0.4


@each
@on_each_target
def test_a_learnt_table_comes_close_to_the_optimum(method, kind):
    target = TARGETS[kind]()
    twist = learn_twist(target, TwistConfig(method, steps=300, batch=512, lr=0.08))
    assert effective_share(target, None) < 0.45
    # The optimal twist gives every particle the same weight: a share of 1.
    assert effective_share(target, twist) > 0.9
    log_z = target.table().log_z
    error = {
        guide: torch.tensor([particles(target, guide, 64, i).log_z - log_z for i in range(30)])
        for guide in (None, twist)
    }
    assert float(error[twist].square().mean()) < float(error[None].square().mean()) / 9


def contains_c(items):
    return ["c" in text for text in items]


@each
@pytest.mark.parametrize("kind", ["small", "gpt2", "llama"])
def test_a_network_learns_one_too(method, kind):
    target = Target(build(kind, max_new=4), Condition(contains_c))
    plain = effective_share(target, None, k=128)
    twist = learn_twist(target, TwistConfig(method, steps=60, batch=128, lr=0.01))
    assert effective_share(target, twist, k=128) > plain + 0.5 * (1 - plain)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@each
def test_one_seed_one_twist_and_it_goes_on_where_it_was(method, no_global_state):
    config = TwistConfig(method, steps=6, batch=32)
    target = Target(small(max_new=4), Reward(lambda items: [len(i) for i in items], beta=2.0))
    whole = learn_twist(target, config)
    assert same(whole, learn_twist(target, config))
    state = twist_init(target, config)
    for _ in range(3):
        state, _ = twist_step(state, target, config)
    saved = state.state_dict()
    fresh = twist_init(target, config)
    fresh.load_state_dict(saved)
    while fresh.done < config.steps:
        fresh, info = twist_step(fresh, target, config)
    assert same(whole, fresh.twist)
    assert math.isfinite(info.loss)
    assert info.lr < config.lr


def test_an_unbounded_twist_may_be_worth_more_than_one():
    target = worlds.toy()
    state = twist_init(target, TwistConfig())
    assert not state.twist.bounded
    states = torch.zeros(1, dtype=torch.long)
    assert float(state.twist.values(states)[0, 0].detach()) == pytest.approx(state.log_z.value)
    hard = twist_init(worlds.hard(), TwistConfig())
    assert hard.twist.bounded
    odds = hard.twist.values(states)[0, 0].detach()
    assert float(odds.sigmoid().log()) == pytest.approx(hard.log_z.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "clt"}, "did you mean 'ctl'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"lr": float("inf")}, "lr must be positive and finite"),
        ({"floor": 0.0}, "floor must be positive"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        TwistConfig(**settings)


def test_what_cannot_be_twisted():
    never = Target(worlds.prior(), Condition(lambda items: [False] * len(items)))
    with pytest.raises(TargetUnreachableError, match="none of 2048 prior draws"):
        learn_twist(never)
    power = Target(worlds.prior(), Condition(worlds.has_two), prior_power=0.5)
    with pytest.raises(ConfigError, match="prior at power 1"):
        learn_twist(power)
    table = worlds.toy().table()
    with pytest.raises(ConfigError, match="open, got a Table"):
        learn_twist(Target(table, Condition(lambda items: [True] * len(items))))
    with pytest.raises(NumericsError, match="lower the learning rate"):
        learn_twist(worlds.toy(), TwistConfig("fudge", steps=30, batch=64, lr=500.0, clip=1e9))
