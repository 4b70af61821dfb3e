import math

import pytest
import torch
from scipy import stats

from esscher.core import Condition, Draws, Reward, Table, Target, importance_resample, rejection
from esscher.errors import ConfigError, NumericsError, TargetUnreachableError
from tests.worlds import SEQUENCES, seeded, toy_posterior, toy_prior, toy_target


def has_c(texts):
    return ["c" in t for t in texts]


HARD = Target(toy_prior(), Condition(has_c))
LOG_BOUND = float(toy_target().log_weight(torch.arange(364)).max())


def p_value(x, law):
    """Chi-square test of x against a Table, rare outcomes pooled."""
    counts = torch.bincount(x, minlength=len(law)).double()
    expected = len(x) * law.probs
    big = expected >= 5
    observed, wanted = counts[big], expected[big]
    if not bool(big.all()):
        observed = torch.cat([observed, counts[~big].sum()[None]])
        wanted = torch.cat([wanted, expected[~big].sum()[None]])
    return float(stats.chisquare(observed.numpy(), wanted.numpy()).pvalue)


class Words:
    """A law over lists of text, to show that samples need not be tensors."""

    def sample(self, n, *, context=None, rng):
        draws = toy_prior().sample(n, rng=rng)
        return Draws([SEQUENCES[i] for i in draws.x.tolist()], draws.log_prob)

    def log_prob(self, x, *, context=None):
        return toy_prior().log_prob(torch.tensor([SEQUENCES.index(t) for t in x]))


@pytest.mark.parametrize(
    ("target", "bound"), [(HARD, 0.0), (toy_target(), LOG_BOUND)], ids=["condition", "reward"]
)
def test_rejection_is_exact(target, bound):
    result = rejection(target, toy_prior(), bound, 20_000, rng=seeded(0))
    assert len(result.x) == 20_000
    assert p_value(result.x, target.table()) > 0.001
    assert p_value(result.x, toy_prior()) < 1e-6
    z = result.acceptance.mean * math.exp(bound)
    error = result.acceptance.se * math.exp(bound)
    assert abs(z - math.exp(target.table().log_z)) < 4 * error
    assert result.acceptance.n == result.n_proposed


def test_results_are_scored_under_both_laws():
    result = rejection(toy_target(), toy_prior(), LOG_BOUND, 50, rng=seeded(0), batch=7)
    assert torch.equal(result.log_target, toy_target().log_density(result.x))
    assert torch.equal(result.log_proposal, toy_prior().log_prob(result.x))


def test_samples_may_be_lists():
    target = Target(Words(), Condition(has_c))
    result = rejection(target, Words(), 0.0, 30, rng=seeded(0), batch=8)
    assert len(result.x) == 30
    assert all("c" in text for text in result.x)


def test_same_seed_same_draws():
    a, b = (rejection(HARD, toy_prior(), 0.0, 100, rng=seeded(3)).x for _ in range(2))
    assert torch.equal(a, b)


def test_a_violated_bound_is_an_error():
    with pytest.raises(NumericsError, match=r"sample \d+ \('.*'\).*above log_bound = 1;.*quasi"):
        rejection(toy_target(), toy_prior(), 1.0, 1000, rng=seeded(0))


def test_unreachable_target_says_what_rejects_how_rare_and_what_to_do():
    target = Target(
        toy_prior(),
        Condition(lambda t: [False] * len(t), name="never"),
        Condition(has_c),
        Reward(lambda t: [0.0] * len(t), name="flat"),
    )
    with pytest.raises(TargetUnreachableError) as caught:
        rejection(target, toy_prior(), 0.0, 10, rng=seeded(0), batch=100, max_draws=250)
    message = str(caught.value)
    assert "none of 250 proposals" in message
    assert "Z < 0.012" in message
    assert message.index("'never' rules out 50 of 50") < message.index("'has_c'")
    assert message.index("'has_c'") < message.index("'flat' rules out 0")
    assert "soften" in message
    assert "tempered" in message


def test_importance_resampling_tends_to_the_target():
    result = importance_resample(toy_target(), toy_prior(), 4000, rng=seeded(0), pool=400_000)
    assert p_value(result.x, toy_posterior()) > 0.001
    assert abs(result.log_z.mean - toy_posterior().log_z) < 4 * result.log_z.se
    assert result.pareto_k < 0.7
    assert torch.equal(result.log_target, toy_target().log_density(result.x))


def test_soft_best_of_pool_is_between_prior_and_target():
    x = torch.cat(
        [
            importance_resample(toy_target(), toy_prior(), 1, rng=rng, pool=4).x
            for rng in [seeded(0)]
            for _ in range(3000)
        ]
    )
    weight = toy_target().log_weight(torch.arange(364))
    drawn = float(weight[x].mean())
    assert toy_prior().expectation(weight) + 0.3 < drawn < toy_posterior().expectation(weight) - 0.1


def test_resampling_an_unreachable_target():
    target = Target(toy_prior(), Condition(lambda t: [0] * len(t), name="never"))
    with pytest.raises(TargetUnreachableError, match="'never' rules out 32 of 32"):
        importance_resample(target, toy_prior(), 2, rng=seeded(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n must be at least 1"),
        ({"batch": 0}, "batch"),
        ({"max_draws": 0}, "max_draws"),
        ({"log_bound": math.inf}, "log_bound must be finite"),
        ({"context": ["a", "b"]}, "one context for all draws, got 2"),
    ],
)
def test_bad_settings(settings, message):
    settings = {"n": 1, "log_bound": 0.0} | settings
    with pytest.raises(ConfigError, match=message):
        rejection(HARD, toy_prior(), rng=seeded(0), **settings)


def test_contexts_reach_law_and_evidence():
    seen = []

    class Echo(Table):
        def sample(self, n, *, context=None, rng):
            seen.append(context)
            return super().sample(n, rng=rng)

    def judge(items, contexts):
        seen.append(set(contexts))
        return [0.0] * len(items)

    law = Echo(torch.zeros(3))
    rejection(Target(law, Reward(judge)), law, 0.0, 5, rng=seeded(0), context="prompt")
    assert seen[:2] == ["prompt", {"prompt"}]
