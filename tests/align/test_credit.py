"""Token credit: the estimator against enumeration, and what it may be used for."""

import math

import pytest
import torch

from esscher.align import SamplerConfig, credit, sample
from esscher.align.compare import jobs_of
from esscher.align.config import FitConfig
from esscher.align.evaluate import evaluate
from esscher.align.fit import fit
from esscher.align.options import CompareOptions, FitOptions
from esscher.align.propose import propose
from esscher.align.twists import TwistConfig, learn_twist
from esscher.core import Condition, Reward, Target
from esscher.errors import ConfigError
from esscher.kit.runs.folder import Run
from tests.align import worlds
from tests.kit.lm.models import every_sequence, small

MAX_NEW = 4


def has_b(texts):
    """Satisfied by a third of the prior, as early as the first token or as late as the last."""
    return ["b" in t for t in texts]


def world():
    prior = small(max_new=MAX_NEW, seed=2)
    return prior, Target(prior, Condition(has_b))


def enumerated(prior):
    """All sequences and whether each satisfies the evidence."""
    x = every_sequence(4, MAX_NEW)
    return x, torch.tensor(has_b(prior.items(x)), dtype=torch.float64)


def exact_odds(prior):
    """Log-odds [V] of ψ(prefix, v) by summing over all sequences, for any prefix."""
    x, good = enumerated(prior)
    mass = prior.log_prob(x).exp()
    rows = x.lists()

    def odds(prefix):
        out = []
        for v in range(4):
            head = [*prefix, v]
            own = torch.tensor([row[: len(head)] == head for row in rows])
            share = (mass * good)[own].sum() / mass[own].sum()
            out.append(torch.logit(share.clamp(1e-12, 1 - 1e-12)))
        return torch.stack(out)

    return odds


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_lambda_returns_follow_their_recursion(lam):
    lengths = torch.tensor([1, 4, 2])
    value = torch.rand(7, generator=worlds.seeded(0), dtype=torch.float64)
    outcome = torch.tensor([1.0, 0.0, 1.0])
    found = credit.lambda_returns(value, outcome, lengths, lam)
    start = 0
    for n, end in zip(lengths.tolist(), outcome.tolist(), strict=True):
        goal = end
        for t in reversed(range(n)):
            if t < n - 1:
                goal = (1 - lam) * float(value[start + t + 1]) + lam * goal
            assert float(found[start + t]) == pytest.approx(goal, abs=1e-12)
        start += n


def test_with_the_true_twist_the_gradient_is_that_of_the_divergence():
    """Summed over all sequences, weighted as the prior draws them."""
    prior, _ = world()
    policy = small(max_new=MAX_NEW, seed=5)
    x, good = enumerated(prior)
    log_prior = prior.log_prob(x)
    mass = log_prior.exp()
    z = float((mass * good).sum())
    target = mass * good / z
    parameters = list(policy.module().parameters())
    chunks = policy.log_prob_chunks(x)
    whole = sum(-(target[i] * log_pi).sum() for i, log_pi in chunks)
    expected = torch.autograd.grad(whole, parameters)

    odds = exact_odds(prior)
    for part in prior.passes(x):
        rows = [x.lists()[i] for i in part.rows.tolist()]
        prefixes = [row[:t] for row in rows for t in range(len(row))]
        psi = torch.stack([odds(p) for p in prefixes]).sigmoid()
        with torch.no_grad():
            worth = prior.token_logits(part.ids, part.mask).softmax(-1) * psi
        weight = mass[part.rows].repeat_interleave(part.lengths)[:, None] / z
        log_pi = credit._follow(policy, (worth * weight).float(), part)
        torch.testing.assert_close(log_pi, policy.log_prob(x)[part.rows], atol=1e-5, rtol=0)
    for p, g in zip(parameters, expected, strict=True):
        torch.testing.assert_close(p.grad, g, atol=2e-5, rtol=1e-3)


def test_the_twist_learns_the_chance_of_every_prefix():
    prior, target = world()
    state = credit.Credit.start(prior, 0.5)
    steps = 400
    for done in range(steps):
        draws = propose(prior, target, 256, rng=worlds.seeded(done))
        credit.learn(
            state, prior.clone(), prior, draws, z=torch.tensor(0.5), done=done, steps=steps
        )
    odds = exact_odds(prior)
    # Prefixes whose last token carries the information, and one that has none left to come.
    for prefix in ([], [1], [2], [1, 1], [3, 1]):
        ids = torch.tensor([[0, *prefix]])
        mask = torch.zeros_like(ids, dtype=torch.bool)
        mask[0, -1] = True
        with torch.no_grad():
            found = state.twist.values(state.twist.states(ids, mask))[0].sigmoid()
            weight = prior.token_logits(ids, mask)[0].softmax(-1)
        gap = (weight * (found - odds(prefix).sigmoid()).abs()).sum()
        assert float(gap) < 0.08, prefix


@pytest.mark.parametrize(
    ("steps", "batch", "first"), [(1, 256, 0), (60, 256, 0), (100, 256, 19), (310, 256, 124)]
)
def test_the_policy_waits_only_in_fits_that_are_long_enough(steps, batch, first):
    assert credit.first_followed(steps, batch) == first


def test_until_it_follows_the_policy_stays(monkeypatch):
    prior, target = world()
    monkeypatch.setattr(credit, "FOLLOWED", 64)
    seen = []

    def watch(done, policy):
        pairs = zip(policy.module().parameters(), prior.module().parameters(), strict=True)
        seen.append(all(torch.equal(a, b) for a, b in pairs))
        return {}

    config = FitConfig(steps=10, batch=32, credit="token")
    result = fit(prior, target, config=config, watch=watch, watch_every=1)
    assert seen == [True] * 5 + [False] * 6
    assert [row["lr"] == 0 for row in result.history[1:]] == [True] * 4 + [False] * 6


def test_the_policy_follows_the_twist():
    prior, target = world()
    config = FitConfig(steps=300, batch=128, credit="token", lr=3e-3)
    policy = fit(prior, target, config=config).policy
    x, good = enumerated(prior)
    mass = prior.log_prob(x).exp() * good
    p = mass / mass.sum()
    kept = p > 0
    kl = float((p * (p.log() - policy.log_prob(x)))[kept].sum())
    assert kl < 0.1 * -math.log(float(mass.sum()))


def test_the_twist_of_a_fit_leads_particles_and_learns_on():
    prior, target = world()
    config = FitConfig(steps=200, batch=128, credit="token")
    found = fit(prior, target, config=config)
    small_runs = SamplerConfig(particles=8)
    led = sample(target, "twisted_smc", n=200, twist=found.twist, config=small_runs)
    plain = sample(target, "smc", n=200, config=small_runs)
    assert led.facts["ess"].mean > plain.facts["ess"].mean + 0.3
    assert fit(prior, target, config=FitConfig(steps=2, credit="sequence")).twist is None
    still = learn_twist(target, TwistConfig(steps=1, lr=1e-9), start=found.twist)
    fresh = learn_twist(target, TwistConfig(steps=1, lr=1e-9))
    pairs = [zip(t.parameters(), found.twist.parameters(), strict=True) for t in (still, fresh)]
    near, far = (max(float((a - b).detach().abs().max()) for a, b in pair) for pair in pairs)
    assert near < 1e-6
    assert far > 0.1


def test_where_tokens_are_credited_by_themselves():
    prior, target = world()
    assert credit.can_credit(prior, target, 0.5)
    assert credit.can_credit(prior, target, 0.01)
    assert not credit.can_credit(prior, target, 0.001)
    assert not credit.can_credit(prior, target, 1.0)
    assert not credit.can_credit(prior, Target(prior, Reward(lambda x: [0.0] * len(x))), 0.5)
    assert not credit.can_credit(prior, Target(prior, Condition(has_b), prior_power=0.5), 0.5)
    assert not credit.can_credit(worlds.prior(), worlds.hard(), 0.5)


def test_a_demand_that_cannot_be_met_is_an_error():
    prior, _ = world()
    soft = Target(prior, Reward(lambda x: [float(len(t)) for t in x]))
    with pytest.raises(ConfigError, match=r"conditions as the only evidence.*here 100\.0%"):
        fit(prior, soft, config=FitConfig(steps=2, batch=32, credit="token"))
    with pytest.raises(ConfigError, match="needs objective='forward_kl'"):
        FitConfig("js", credit="token")
    with pytest.raises(ConfigError, match="draws of the prior"):
        FitConfig(credit="token", proposal="on_policy")


def test_the_setting_decides_and_comparisons_keep_it_to_forward_kl(tmp_path):
    prior, target = world()
    losses = {}
    for kind in ("auto", "token", "sequence"):
        config = FitOptions(steps=3, batch=32, credit=kind).config()
        losses[kind] = [row["loss"] for row in fit(prior, target, config=config).history]
    assert losses["auto"] == losses["token"] != losses["sequence"]
    options = CompareOptions(objectives=("forward_kl", "js"), credit="token")
    run = Run.create(tmp_path, "align", "compare", "test", config=options, seed=0)
    assert [job.options.credit for job in jobs_of(options, run)] == ["token", "auto"]


def test_prompts_are_credited_too():
    prior, target = world()
    config = FitConfig(steps=60, batch=128, group=16, credit="token", lr=3e-3)
    prompts = ["a", "cb"]
    policy = fit(prior, target, config=config, prompts=prompts).policy
    before = evaluate(prior, target, 400, prompts=prompts)
    after = evaluate(policy, target, 400, prompts=prompts)
    assert after.satisfied.mean > before.satisfied.mean + 0.1
    assert after.kl_target_model.mean < 0.7 * before.kl_target_model.mean


def test_a_stopped_fit_continues_to_the_same_numbers(tmp_path):
    prior, target = world()
    config = FitConfig(steps=8, batch=32, credit="token", seed=3)
    whole = fit(prior, target, config=config)

    class StopError(Exception):
        pass

    def stop(done, *_):
        if done == 5:
            raise StopError

    run = Run.create(tmp_path, "align", "fit", "test", config=config, seed=config.seed)
    with pytest.raises(StopError):
        fit(prior, target, config=config, run=run, save_every=3, on_step=stop)
    again = fit(prior, target, config=config, run=run, save_every=3)
    assert again.history == whole.history
    pairs = zip(again.policy.module().parameters(), whole.policy.module().parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_odds_of_some_tokens_are_those_of_all():
    twist = small(max_new=MAX_NEW).twist()
    rng = worlds.seeded(1)
    for p in (twist.level, twist.choice, twist.bias):
        p.data.normal_(generator=rng)
    states = torch.randn(6, 16, generator=rng)
    chosen = torch.tensor([0, 1, 2, 3, 3, 0])
    wanted = twist.values(states).gather(1, chosen[:, None])[:, 0]
    torch.testing.assert_close(twist.values_of(states, chosen), wanted)


def rare(texts):
    return [t.startswith("bc") and "a" in t for t in texts]


def distance(policy, prior, target):
    """KL(p*‖π), summed over all sequences."""
    x = every_sequence(4, MAX_NEW)
    log_p = (prior.log_prob(x) + target.log_weight(x)).log_softmax(0)
    some = log_p > -torch.inf
    return float((log_p.exp() * (log_p - policy.log_prob(x)))[some].sum())


def test_rare_evidence_is_met_by_draws_that_the_twist_leads():
    prior = small(max_new=MAX_NEW, seed=2)
    target = Target(prior, Condition(rare))
    x = every_sequence(4, MAX_NEW)
    z = float((prior.log_prob(x) + target.log_weight(x)).logsumexp(0).exp())
    assert credit.SOME < z < credit.ENOUGH
    config = FitConfig(credit="token", steps=60, batch=1024, lr=0.01)
    found = fit(prior, target, config=config)
    assert distance(prior, prior, target) == pytest.approx(-math.log(z), abs=1e-4)
    assert distance(found.policy, prior, target) < 0.3
    # Half of the draws come from where the evidence holds, once the twist knows where that is.
    shares = [row["satisfied"] for row in found.history]
    assert sum(shares[:5]) / 5 < 0.1
    assert sum(shares[-10:]) / 10 > 0.4
    assert found.log_z.mean == pytest.approx(math.log(z), abs=0.1)
