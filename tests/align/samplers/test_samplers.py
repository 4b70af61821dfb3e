"""Every sampler against the exact target of an enumerable world, and against its own claims."""

import inspect
import math

import pytest
import torch
from scipy import stats

from esscher.align import SAMPLERS, SamplerConfig, sample
from esscher.align.twists import TwistConfig, learn_twist
from esscher.core import Condition, Reward, Table, Target, best_of_n_law
from esscher.core.estimate import Estimate
from esscher.errors import ConfigError, TargetUnreachableError
from esscher.kit.lm.tabular import TabularLM
from esscher.kit.stopping import BestOfN, EmpiricalLaw, KnownLaw, NormalLaw
from tests.align import worlds
from tests.kit.lm.models import build, every_sequence, small

LM = TabularLM(alphabet=2, max_len=3, seed=5)


def letters(items):
    """A reward that is not in the order of the prior."""
    return [float(len(i)) - 2.0 * (i[0] == 1) for i in items]


def starts_with_zero(items):
    return [i[0] == 0 for i in items]


SOFT = Target(LM, Reward(letters, beta=1.0))
HARD = Target(LM, Condition(starts_with_zero))
TARGETS = {"soft": SOFT, "hard": HARD}
QUICK = TwistConfig(steps=60, batch=128, lr=0.1, pilot=512)
SETTINGS = {
    "rejection": SamplerConfig(log_bound=4.0),
    "quasi_rejection": SamplerConfig(tvd=0.01),
    "resample": SamplerConfig(pool=40),
    "soft_best_of_n": SamplerConfig(pool=64),
    "best_of_n": SamplerConfig(pool=4),
    "independence_mh": SamplerConfig(steps=25),
    "suffix_mh": SamplerConfig(steps=25),
    "block_mh": SamplerConfig(steps=30, block=2),
    "parallel_tempering": SamplerConfig(steps=25, rungs=3),
    "smc": SamplerConfig(particles=400),
    "awrs": SamplerConfig(particles=400),
    "twisted_smc": SamplerConfig(particles=400, twist=QUICK),
}
each = pytest.mark.parametrize("method", list(SAMPLERS))
INDEPENDENT = ("rejection", "quasi_rejection", "soft_best_of_n", "independence_mh", "suffix_mh",
               "block_mh", "parallel_tempering")  # fmt: skip


def follows(x, law):
    """P-value of a chi-squared test of indices against a law."""
    expected = len(x) * law.probs
    seen = torch.bincount(x, minlength=len(law)).double()
    if float(seen[law.probs == 0].sum()) > 0:
        return 0.0
    some = expected > 5
    rest = torch.stack([seen[~some].sum(), expected[~some].sum()])
    counts = torch.cat([seen[some], rest[:1]]) if rest[1] > 5 else seen[some]
    wanted = torch.cat([expected[some], rest[1:]]) if rest[1] > 5 else expected[some]
    wanted = wanted * counts.sum() / wanted.sum()
    return stats.chisquare(counts.numpy(), wanted.numpy()).pvalue


def distance(x, law):
    seen = torch.bincount(x, minlength=len(law)).double() / len(x)
    return 0.5 * float((seen - law.probs).abs().sum())


def noise(law, n):
    """Total variation that n exact draws show on average."""
    return 0.5 * float((2 / math.pi * law.probs * (1 - law.probs) / n).sqrt().sum())


def test_the_table_names_what_is_tried_here():
    assert set(SETTINGS) == set(SAMPLERS)
    for name, sampler in SAMPLERS.items():
        assert sampler.name == name
        assert inspect.getdoc(sampler.draw)
    assert [n for n, s in SAMPLERS.items() if s.minimises is None] == ["best_of_n"]


@pytest.mark.parametrize("kind", list(TARGETS))
@pytest.mark.parametrize("method", INDEPENDENT)
def test_independent_draws_follow_the_target(method, kind):
    target = TARGETS[kind]
    drawn = sample(target, method, n=1500, seed=1, config=SETTINGS[method])
    assert len(drawn.x) == 1500
    assert follows(drawn.x, target.table()) > 1e-3
    # The prior's own draws would not pass for the target's.
    assert follows(LM.sample(1500, rng=worlds.seeded(0)).x, target.table()) < 1e-6


@pytest.mark.parametrize("kind", list(TARGETS))
@pytest.mark.parametrize("method", ["resample", "smc", "awrs", "twisted_smc"])
def test_dependent_draws_come_near_the_target(method, kind):
    target = TARGETS[kind]
    drawn = sample(target, method, n=4000, seed=2, config=SETTINGS[method])
    assert distance(drawn.x, target.table()) < 3 * noise(target.table(), 1500)
    assert distance(LM.sample(4000, rng=worlds.seeded(0)).x, target.table()) > 0.2


POLICY = TabularLM(alphabet=2, max_len=3, seed=9)


@each
def test_any_covering_law_may_propose(method):
    drawn = sample(SOFT, method, proposal=POLICY, n=1000, seed=3, config=SETTINGS[method])
    law = SOFT.table()
    if method == "best_of_n":
        assert distance(drawn.x, law) > 0.1
    elif method in INDEPENDENT:
        assert follows(drawn.x, law) > 1e-3
    else:
        assert distance(drawn.x, law) < 3 * noise(law, 1000)


def test_best_of_n_follows_its_own_law():
    drawn = sample(SOFT, "best_of_n", n=4000, seed=4, config=SETTINGS["best_of_n"])
    prior = Target(LM, Reward(lambda items: [0.0] * len(items))).table()
    law = best_of_n_law(prior, SOFT.log_weight(LM.enumerate()), 4)
    assert follows(drawn.x, law) > 1e-3
    kl = drawn.facts["kl_proposal"]
    assert abs(kl.mean - law.kl(prior)) < 4 * kl.se
    # The bound that is often quoted as the value is far off where scores tie.
    assert math.log(4) - 3 / 4 - law.kl(prior) > 4 * kl.se


@pytest.mark.parametrize("method", ["resample", "soft_best_of_n", "smc", "awrs", "twisted_smc"])
@pytest.mark.parametrize("kind", list(TARGETS))
def test_estimates_of_z_come_with_an_error_that_covers(method, kind):
    target = TARGETS[kind]
    found = [
        sample(target, method, n=200, seed=s, config=SETTINGS[method]).facts["log_z"]
        for s in range(4)
    ]
    exact = target.table().log_z
    if method != "twisted_smc":
        assert all(f.se > 0 for f in found)
    gaps = [abs(f.mean - exact) / (f.se + 1e-9) for f in found if abs(f.mean - exact) > 1e-3]
    assert sorted(gaps)[: len(gaps) - 1] == [] or sorted(gaps)[len(gaps) // 2] < 3
    assert max(gaps, default=0.0) < 5


def test_quasi_rejection_keeps_the_distance_asked_for_and_accepts_more_where_it_may():
    accepted = {}
    for tvd in (0.02, 0.3):
        drawn = sample(SOFT, n=20_000, seed=3, config=SamplerConfig(tvd=tvd))
        assert distance(drawn.x, SOFT.table()) <= tvd + noise(SOFT.table(), 20_000) + 0.02
        accepted[tvd] = drawn.facts["acceptance"].mean
        assert [row.tvd.mean for row in drawn.curve] == sorted(
            (row.tvd.mean for row in drawn.curve), reverse=True
        )
    assert accepted[0.3] > accepted[0.02] + 0.1


def test_a_larger_pilot_keeps_the_distance_asked_for_more_surely():
    def farthest(pilot):
        config = SamplerConfig(tvd=0.1, pilot=pilot)
        return max(sample(SOFT, n=4000, seed=s, config=config).facts["tvd"].mean for s in range(12))

    assert farthest(20) > 0.11
    assert 0.09 < farthest(2000) < 0.1


def test_hard_evidence_from_the_prior_is_plain_rejection():
    drawn = sample(HARD, n=500, config=SamplerConfig(log_bound=0.0))
    weight = HARD.log_weight(LM.enumerate())
    share = float(LM.log_prob(LM.enumerate()).exp()[weight == 0].sum())
    assert drawn.facts["tvd"].mean < 1e-9
    assert abs(drawn.facts["acceptance"].mean - share) < 4 * drawn.facts["acceptance"].se
    assert all(text[0] == 0 for text in LM.items(drawn.x))


@each
def test_one_seed_one_sample(method, no_global_state):
    first, second, other = (
        sample(SOFT, method, n=50, seed=s, config=SETTINGS[method]) for s in (1, 1, 2)
    )
    assert torch.equal(first.x, second.x)
    assert first.facts == second.facts
    assert not torch.equal(first.x, other.x)
    for value in first.facts.values():
        assert value is None or isinstance(value, Estimate | float | int)


def has_c(items):
    return ["c" in text for text in items]


@each
@pytest.mark.parametrize("kind", ["small", "gpt2"])
def test_on_a_network(method, kind):
    lm = build(kind, max_new=3)
    target = Target(lm, Condition(has_c))
    config = SETTINGS[method]
    if method == "twisted_smc":
        config = SamplerConfig(particles=64, twist=TwistConfig(steps=10, batch=64))
    if method == "rejection":
        config = SamplerConfig()
    drawn = sample(target, method, n=400, seed=0, config=config)
    texts = lm.items(drawn.x)
    assert len(texts) == 400
    if method == "best_of_n":
        # A pool without a satisfying text hands out one that is not.
        plain = float(
            torch.tensor(has_c(lm.items(lm.sample(400, rng=worlds.seeded(1)).x))).mean(
                dtype=torch.float64
            )
        )
        assert abs(sum(has_c(texts)) / 400 - (1 - (1 - plain) ** 4)) < 0.1
        return
    assert all(has_c(texts))
    everything = every_sequence(4, 3)
    weight = (lm.log_prob(everything) + target.log_weight(everything)).softmax(0)
    ends = float(weight[everything.finished].sum())
    found = float(drawn.x.finished.double().mean())
    assert abs(found - ends) < 4.5 * math.sqrt(ends * (1 - ends) / 150)


def test_a_prompt_is_continued():
    lm = small(max_new=3)
    target = Target(lm, Condition(has_c))
    for method in ("suffix_mh", "block_mh", "smc", "resample", "quasi_rejection"):
        config = SamplerConfig(steps=8, particles=32)
        drawn = sample(target, method, n=300, context="ab", config=config)
        everything = every_sequence(4, 3)
        log_p = lm.log_prob(everything, context="ab") + target.log_weight(everything)
        ends = float(log_p.softmax(0)[everything.finished].sum())
        assert abs(float(drawn.x.finished.double().mean()) - ends) < 0.2, method


def test_a_twist_learnt_before_is_used():
    twist = learn_twist(HARD, QUICK)
    first = sample(HARD, "twisted_smc", n=50, twist=twist)
    assert first.facts["ess"].mean > sample(HARD, "smc", n=50).facts["ess"].mean + 0.1
    with pytest.raises(ConfigError, match="smc takes no twist"):
        sample(HARD, "smc", n=5, twist=twist)


@pytest.mark.parametrize("method", [m for m in SAMPLERS if m != "best_of_n"])
def test_an_unreachable_target_says_so(method):
    never = Target(LM, Condition(lambda items: [False] * len(items)))
    config = SamplerConfig(steps=2, particles=8, pool=2, twist=TwistConfig(pilot=64))
    with pytest.raises(TargetUnreachableError, match=r"Z <|weight zero"):
        sample(never, method, n=20, config=config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tvd": 0.0}, "tvd must lie in"),
        ({"tvd": 1.0}, "tvd must lie in"),
        ({"log_bound": math.inf}, "log_bound must be finite"),
        ({"pilot": 1}, "pilot must be at least 2, got 1"),
        ({"pool": 0}, "pool must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"rungs": 1}, "rungs must be at least 2"),
        ({"particles": 0}, "particles must be at least 1"),
        ({"resample_below": 1.5}, "resample_below must lie in"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        SamplerConfig(**settings)


def test_what_cannot_be_asked_for():
    with pytest.raises(ConfigError, match="did you mean 'rejection'"):
        sample(SOFT, "rejecton")
    with pytest.raises(ConfigError, match="n must be at least 1"):
        sample(SOFT, n=0)
    table = Target(SOFT.table(), Reward(lambda x: [0.0] * len(x)))
    with pytest.raises(ConfigError, match="next-token laws are open, got a Table"):
        sample(table, "suffix_mh", n=2)
    other = TabularLM(alphabet=2, max_len=2)
    with pytest.raises(ConfigError, match="the prior's tokens and length"):
        sample(SOFT, "twisted_smc", n=2, proposal=other, config=SamplerConfig(twist=QUICK))


def stopped_law(cap, pool):
    """Law of what is kept, and draws per pool, where a pool ends at `cap` or is full."""
    p, score = LM.log_prob(LM.enumerate()).exp(), SOFT.log_weight(LM.enumerate())
    short = float(p[score < cap].sum())
    at_most = torch.stack([p[score <= s].sum() for s in score])
    below = torch.stack([p[score < s].sum() for s in score])
    tied = torch.stack([p[score == s].sum() for s in score])
    kept = torch.where(
        score >= cap,
        p * (1 - short**pool) / (1 - short),
        p * (at_most**pool - below**pool) / tied,
    )
    return kept, (1 - short**pool) / (1 - short)


@pytest.mark.parametrize("cost", [0.02, 0.15])
def test_a_stopped_pool_follows_its_own_law(cost):
    """The law of the evidence is known here, so that the cap is the same for all pools."""
    x = LM.enumerate()
    stop = BestOfN(cost, KnownLaw(SOFT.log_weight(x).numpy(), LM.log_prob(x).exp().numpy()))
    kept, draws = stopped_law(stop.fair_cap([]), 6)
    assert float(kept.sum()) == pytest.approx(1.0)
    assert 1 < draws < 6
    drawn = sample(SOFT, "best_of_n", n=4000, seed=6, config=SamplerConfig(pool=6, stop=stop))
    assert follows(drawn.x, Table(kept.log())) > 1e-3
    facts = drawn.facts
    assert abs(facts["draws"].mean - draws) < 4 * facts["draws"].se
    payoff = float(kept @ SOFT.log_weight(x)) - cost * draws
    assert abs(facts["payoff"].mean - payoff) < 4 * facts["payoff"].se
    assert facts["n_proposed"] == round(4000 * facts["draws"].mean)


@pytest.mark.parametrize("law", [NormalLaw(), EmpiricalLaw()], ids=repr)
def test_a_stopping_rule_saves_draws_and_earns_more(law):
    full = sample(SOFT, "best_of_n", n=500, seed=7, config=SamplerConfig(pool=30))
    config = SamplerConfig(pool=30, stop=BestOfN(0.1, law))
    drawn = sample(SOFT, "best_of_n", n=500, seed=7, config=config)
    assert drawn.facts["n_proposed"] < full.facts["n_proposed"] / 3
    without = float(SOFT.log_weight(full.x).mean()) - 0.1 * 30
    assert drawn.facts["payoff"].mean > without + 1
    assert drawn.facts["full_pools"] < 50


def test_hard_evidence_is_drawn_for_until_it_is_met():
    stop = BestOfN(0.1, EmpiricalLaw())
    drawn = sample(HARD, "best_of_n", n=300, seed=8, config=SamplerConfig(pool=200, stop=stop))
    assert bool((HARD.log_weight(drawn.x) == 0).all())
    assert drawn.facts["full_pools"] == 0


def test_a_rule_may_allow_fewer_draws_than_the_pool():
    stop = BestOfN(1e-9, NormalLaw(), most=3)
    drawn = sample(SOFT, "best_of_n", n=20, seed=9, config=SamplerConfig(pool=10, stop=stop))
    assert drawn.facts["n_proposed"] == 60
