"""Proximal policy optimisation: its gradient summed over all outcomes, and where it ends."""

import pytest
import torch

from esscher.align.config import FitConfig
from esscher.align.critic import EPOCHS, Critic, descend_clipped
from esscher.align.evaluate import evaluate
from esscher.align.fit import fit
from esscher.align.objectives.ppo import CLIP, ClippedBatch, gae, ppo, token_rewards
from esscher.align.propose import propose
from esscher.align.train import init, step
from esscher.core import Reward, Target
from tests.align import worlds
from tests.kit.lm.models import hf, small

MAX_LEN = 3


def by_token(policy):
    """[outcomes, T] log-probability of every token, 0 beyond the end, differentiable; lengths."""
    x = policy.enumerate()
    rows = policy.items(x)
    log_probs = policy.network.logits.log_softmax(1)
    out = torch.zeros(len(x), MAX_LEN, dtype=torch.float64)
    for i, ids in enumerate(rows):
        prefix = torch.zeros(1, dtype=torch.long)
        for t, token in enumerate(ids):
            out[i, t] = log_probs[prefix[0], token]
            prefix = policy.network.child(prefix, torch.tensor([token]))
    return out, torch.tensor([len(ids) for ids in rows])


def expected_value(policy, rewards, lengths):
    """[outcomes, T + 1] expected rewards still to come, by sums over all continuations."""
    rows = policy.items(policy.enumerate())
    p = policy.log_prob(policy.enumerate()).exp()
    ahead = rewards.flip(1).cumsum(1).flip(1)
    total, mass = {}, {}
    for i, ids in enumerate(rows):
        for t in range(len(ids)):
            key = tuple(ids[:t])
            total[key] = total.get(key, 0.0) + p[i] * ahead[i, t]
            mass[key] = mass.get(key, 0.0) + p[i]
    out = torch.zeros(len(rows), MAX_LEN + 1, dtype=torch.float64)
    for i, ids in enumerate(rows):
        for t in range(len(ids)):
            out[i, t] = total[tuple(ids[:t])] / mass[tuple(ids[:t])]
    assert bool((lengths > 0).all())
    return out


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("critic", ["true", "wrong"])
def test_the_expected_gradient_is_that_of_the_divergence(lam, critic):
    policy, target = worlds.perturbed(1, 0.7, MAX_LEN), worlds.toy(MAX_LEN)
    log_pi, lengths = by_token(policy)
    log_prior, _ = by_token(worlds.prior(MAX_LEN))
    weight = target.log_weight(policy.enumerate())
    rewards = token_rewards(log_pi.detach(), log_prior.detach(), weight, lengths)
    values = expected_value(policy, rewards, lengths)
    if critic == "wrong":
        # A wrong value of a prefix, the same wherever it occurs, and 0 where a draw has ended.
        values[:, 0] += 3.0
    advantage = gae(rewards, values, lam)
    probs = policy.log_prob(policy.enumerate()).exp()
    inside = torch.arange(MAX_LEN) < lengths[:, None]
    found = worlds.gradient(-(probs[:, None] * advantage * log_pi)[inside].sum(), policy)
    all_log_pi = policy.log_probs()
    d = all_log_pi - target.table().log_probs
    wanted = worlds.gradient((all_log_pi.exp() * d).sum(), policy)
    assert float(wanted.norm()) > 1e-2
    assert float((found - wanted).norm() / wanted.norm()) < 1e-10


def test_advantages_between_the_return_and_one_step():
    rng = worlds.seeded(0)
    rewards, values = (torch.randn(5, n, generator=rng, dtype=torch.float64) for n in (4, 5))
    values[:, -1] = 0.0
    one = rewards + values[:, 1:] - values[:, :-1]
    torch.testing.assert_close(gae(rewards, values, 0.0), one)
    returns = rewards.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(gae(rewards, values, 1.0), returns - values[:, :-1])


def test_rewards_add_up_to_the_log_ratio():
    policy, target = worlds.perturbed(2, 0.5, MAX_LEN), worlds.toy(MAX_LEN)
    log_pi, lengths = (part.detach() for part in by_token(policy))
    log_prior = by_token(worlds.prior(MAX_LEN))[0].detach()
    weight = target.log_weight(policy.enumerate())
    for power in (1.0, 0.5):
        found = token_rewards(log_pi, log_prior, weight, lengths, power).sum(1)
        prior = target.prior.log_prob(policy.enumerate())
        wanted = power * prior + weight - policy.log_prob(policy.enumerate())
        torch.testing.assert_close(found, wanted)


def test_a_ratio_beyond_the_clip_is_not_rewarded_further():
    log_old = torch.zeros(4, dtype=torch.float64)
    log_pi = torch.tensor([0.1, 0.5, -0.1, -0.5]).double().requires_grad_()
    for sign, live in ((1.0, [True, False, True, True]), (-1.0, [True, True, True, False])):
        batch = ClippedBatch(log_pi, log_old, torch.full((4,), sign).double(), 2)
        (slope,) = torch.autograd.grad(ppo(batch), log_pi)
        assert (slope != 0).tolist() == live
    assert CLIP == 0.2


@pytest.mark.parametrize("build", [worlds.prior, lambda: small(max_new=4), lambda: hf("gpt2")])
def test_several_updates_of_policy_and_critic(build):
    model = build()
    target = Target(model, Reward(lambda items: [float(sum(map(ord, str(i))) % 5) for i in items]))
    policy = model.clone()
    draws = propose(policy, target, 16, rng=worlds.seeded(0))
    critic = Critic.start(model)
    moves = []
    loss, log_pi = descend_clipped(
        critic, policy, model, draws, floor=5.0, lr=1e-3, clip=1.0, move=lambda: moves.append(1)
    )
    assert len(moves) == EPOCHS - 1
    torch.testing.assert_close(log_pi, draws.log_q, atol=1e-4, rtol=0)
    assert any(float(p.grad.abs().max()) > 0 for p in policy.module().parameters())
    assert critic.updates == EPOCHS
    # Before any update the ratio is 1: the loss is the mean total advantage, here seen again.
    assert abs(loss) < 50


def test_it_comes_near_the_target():
    result = fit(worlds.prior(), worlds.toy(), "ppo", steps=150, batch=512)
    assert evaluate(worlds.prior(), worlds.toy()).tvd.mean > 0.3
    assert evaluate(result.policy, worlds.toy()).tvd.mean < 0.02


def test_the_critic_learns_what_is_still_to_come():
    """At the optimum every return is log Z, whatever the prefix."""
    config = FitConfig("ppo", steps=150, batch=1024, lr=0.02)
    state = init(worlds.prior().clone(), config)
    for _ in range(config.steps or 0):
        state, _info = step(state, worlds.toy(), config)
    assert state.critic is not None
    logits = state.critic.twist.table.logits.detach()
    # Most of what the first letters are worth: log E_p0[φ | x_1], less what the reward still gives.
    x = worlds.outcomes()
    items = worlds.prior().items(x)
    joint = worlds.log_prior() + worlds.toy().log_weight(x)
    for letter in range(3):
        rows = torch.tensor([s[0] == letter for s in items])
        wanted = joint[rows].logsumexp(0) - worlds.log_prior()[rows].logsumexp(0)
        assert float(logits[0, letter]) == pytest.approx(float(wanted), abs=0.1)
