"""Laws of fitting that hold for every prior, evidence and batch, searched for counterexamples."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esscher.align.diversity import distinct_n
from esscher.align.normaliser import LogZ
from esscher.align.objectives import OBJECTIVES, Batch
from esscher.align.propose import contexts_for, floored, propose
from esscher.align.verdict import Evidence, judge
from esscher.core import Condition, Estimate, Likelihood, Reward, Target, log_z
from esscher.kit.lm.tabular import TabularLM

often = settings(max_examples=30)
ON_DRAWS = [name for name, objective in OBJECTIVES.items() if not objective.per_token]
each = pytest.mark.parametrize("name", ON_DRAWS)
nats = st.floats(-30.0, 5.0)
exact = st.integers(-30 * 1024, 5 * 1024).map(lambda k: k / 1024)
"""Nats whose sums and differences are exact: no rounding for an exponential to magnify."""
N = 7
"""Outcomes of `TabularLM(2, 2)`."""


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@st.composite
def batches(draw, *, on_policy=False):
    n = draw(st.sampled_from([2, 4, 8]))

    def numbers():
        return torch.tensor(draw(st.lists(exact, min_size=n, max_size=n)), dtype=torch.float64)

    log_pi = numbers().clamp(max=-1 / 1024)
    log_q = log_pi.clone() if on_policy else numbers().clamp(max=-1 / 1024)
    weight = numbers()
    prior = numbers().clamp(max=-1 / 1024)
    groups = torch.arange(n) // draw(st.sampled_from([2, n]))
    ones = torch.ones(n, dtype=torch.int64)
    return Batch(log_pi, log_q, prior + weight, weight, torch.tensor(0.125).double(), groups, ones)


DISCONTINUOUS = ("tv", "best_of_n_distillation", "raft_iterated", "reinforce")
"""Signs and ranks jump where rounding makes or breaks a tie; reinforce has no baseline."""


def slope(name, batch):
    leaf = batch.log_pi.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(OBJECTIVES[name].loss(batch._replace(log_pi=leaf)), leaf)
    return found


def close(a, b):
    scale = float(torch.maximum(a.abs(), b.abs()).max())
    return bool(((a - b).abs() <= 1e-9 * max(1.0, scale)).all())


@pytest.mark.parametrize("name", [n for n in ON_DRAWS if n not in DISCONTINUOUS])
@often
@given(data=st.data(), shift=exact)
def test_a_shift_of_the_reward_leaves_the_gradient(name, data, shift):
    """It moves log P and log Z together; rl's baseline takes it out."""
    batch = data.draw(batches(on_policy=OBJECTIVES[name].on_policy_only))
    moved = batch._replace(
        log_target=batch.log_target + shift,
        log_weight=batch.log_weight + shift,
        log_z=batch.log_z + shift,
    )
    assert close(slope(name, batch), slope(name, moved))


@each
@often
@given(data=st.data())
def test_relabelling_groups_leaves_the_gradient(name, data):
    batch = data.draw(batches(on_policy=OBJECTIVES[name].on_policy_only))
    other = batch._replace(groups=100 - 3 * batch.groups)
    assert close(slope(name, batch), slope(name, other))


@pytest.mark.parametrize("name", ["reverse_kl", "rl", "vargrad"])
@often
@given(data=st.data())
def test_baselines_leave_no_common_push(name, data):
    """Leave-one-out advantages sum to zero on-policy: a constant cannot raise all draws."""
    batch = data.draw(batches(on_policy=True))
    found = slope(name, batch)
    assert abs(float(found.sum())) <= 1e-9 * max(1.0, float(found.abs().max()))


@often
@given(data=st.data())
def test_vargrad_is_reverse_kl_on_policy(data):
    batch = data.draw(batches(on_policy=True))
    assert close(slope("vargrad", batch), slope("reverse_kl", batch))


@often
@given(st.lists(nats, min_size=1, max_size=40), st.randoms(use_true_random=False), st.data())
def test_log_z_in_any_order_and_pieces(values, random, data):
    w = torch.tensor(values, dtype=torch.float64)
    whole = LogZ().update(w)
    order = list(range(len(w)))
    random.shuffle(order)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(w)), max_size=4)))
    pieces = LogZ()
    for start, stop in itertools.pairwise([0, *cuts, len(w)]):
        pieces = pieces.update(w[order][start:stop])
    assert pieces.n == whole.n == len(w)
    assert pieces.value == pytest.approx(whole.value, abs=1e-10)
    known, a, b = log_z(w), whole.estimate(), pieces.estimate()
    assert a.mean == pytest.approx(known.mean, abs=1e-10)
    assert a.ess == pytest.approx(known.ess, rel=1e-8)
    assert b.ess == pytest.approx(known.ess, rel=1e-8)
    if len(w) > 1:
        assert a.se == pytest.approx(known.se, rel=1e-5, abs=1e-7)


@often
@given(st.integers(1, 30), st.lists(nats, max_size=10))
def test_log_z_counts_draws_of_weight_zero(zeros, values):
    w = torch.cat([torch.full((zeros,), -torch.inf).double(), torch.tensor(values).double()])
    found = LogZ().update(w)
    assert found.n == len(w)
    assert (found.estimate() is None) == (not values)
    if values:
        assert found.value == pytest.approx(log_z(w).mean, abs=1e-10)


def world(seed, values):
    model = TabularLM(2, 2, seed=seed)
    known = {tuple(s): v for s, v in zip(model.items(model.enumerate()), values, strict=True)}
    return model, lambda items: [known[tuple(s)] for s in items]


@often
@given(
    st.integers(0, 1000),
    st.lists(st.floats(-5, 5), min_size=N, max_size=N),
    st.floats(-50, 50),
    st.floats(0.2, 5.0),
)
def test_a_shift_of_the_reward_leaves_the_posterior(seed, values, shift, beta):
    model, score = world(seed, values)
    plain = Target(model, Reward(score, beta)).table()
    moved = Target(model, Reward(lambda i: [v + shift for v in score(i)], beta)).table()
    assert torch.allclose(plain.log_probs, moved.log_probs, atol=1e-9)
    assert moved.log_z == pytest.approx(plain.log_z + shift / beta, abs=1e-9)


@often
@given(st.integers(0, 1000), st.lists(st.floats(-5, 5), min_size=N, max_size=N), st.floats(0.2, 5))
def test_evidence_in_any_form_and_order(seed, values, beta):
    """A reward over β is a likelihood at scale 1/β; evidence commutes."""
    model, score = world(seed, values)
    allowed = Condition(lambda items: [s[0] != 1 for s in items])
    a = Target(model, Reward(score, beta), allowed).table().log_probs
    b = Target(model, allowed, Likelihood(score, scale=1 / beta)).table().log_probs
    assert torch.allclose(a, b, atol=1e-9)


@often
@given(st.integers(0, 1000), st.lists(st.floats(-5, 5), min_size=N, max_size=N))
def test_swapping_letters_swaps_the_posterior(seed, values):
    """Letters 0 and 1 exchanged in prior and reward: the same law under other names."""
    model, score = world(seed, values)
    mirror = TabularLM(2, 2)
    logits = model.module().logits.detach()
    with torch.no_grad():
        # Rows: the empty prefix, after 0, after 1.
        mirror.module().logits.copy_(logits[[0, 2, 1]][:, [1, 0, 2]])

    def swapped(items):
        return [[{0: 1, 1: 0}.get(i, i) for i in s] for s in items]

    here = Target(model, Reward(score)).table()
    there = Target(mirror, Reward(lambda items: score(swapped(items)))).table()
    names = [tuple(s) for s in model.items(model.enumerate())]
    order = [names.index(tuple(s)) for s in swapped(names)]
    assert torch.allclose(there.log_probs, here.log_probs[order], atol=1e-10)
    assert there.log_z == pytest.approx(here.log_z, abs=1e-10)


@often
@given(st.integers(1, 200), st.integers(2, 20), st.integers(1, 4), st.integers(0, 99))
def test_contexts_come_in_whole_groups(n, group, n_prompts, seed):
    prompts = [f"p{i}" for i in range(n_prompts)]
    context, groups = contexts_for(prompts, n, group, seeded(seed))
    counts = torch.bincount(groups)
    assert bool((counts == group).all())
    assert len(context) == len(groups) == max(1, n // group) * group
    for g in range(len(counts)):
        assert len({context[i] for i in (groups == g).nonzero()[:, 0].tolist()}) == 1
    assert set(context) <= set(prompts)


@often
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_a_proposal_scores_what_it_draws(seed, n):
    model, score = world(3, [0.1 * i for i in range(N)])
    q = TabularLM(2, 2, seed=4)
    target = Target(model, Reward(score))
    draws = propose(q, target, n, rng=seeded(seed))
    assert torch.equal(draws.log_q, q.log_prob(draws.x))
    assert torch.allclose(draws.log_prior, model.log_prob(draws.x))
    assert torch.allclose(draws.log_target, target.log_density(draws.x), atol=1e-12)
    assert draws.copies.tolist() == [draws.x.tolist().count(i) for i in draws.x.tolist()]


@often
@given(st.lists(st.one_of(nats, st.just(-math.inf)), min_size=1, max_size=20), st.floats(0.1, 40))
def test_floors_touch_only_what_is_ruled_out(values, floor):
    w = torch.tensor(values, dtype=torch.float64)
    found = floored(w, floor)
    for before, after in zip(values, found.tolist(), strict=True):
        assert after == (-floor if before == -math.inf else before)


@often
@given(st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=100))
def test_distinct_shares_are_shares(rows):
    for n in (1, 2, 3):
        found = distinct_n(rows, n)
        assert 0.0 <= found.mean <= 1.0
        assert found.n == len(rows)


positive = st.floats(0.0, 50.0)


@often
@given(st.tuples(*[positive] * 4), st.floats(0, 1), st.floats(0, 1), st.floats(-9, 9))
def test_a_verdict_never_praises_what_is_far(sizes, tvd, ess, seen):
    """Whatever the model's own draws say (ess, Z): far on the target's draws is not close."""

    kl, kl_prior, entropy, aim = sizes

    def number(value):
        return Estimate(value, 0.01, 100)

    found = judge(
        Evidence(
            number(kl), number(kl_prior), number(tvd), number(entropy), number(aim), ess, None,
            number(0.0), number(seen),
        )
    )  # fmt: skip
    if kl > 0.1 and tvd > 0.1:
        assert found.word != "close to target"
    if found.word == "collapsed":
        assert kl > kl_prior
        assert entropy < aim
