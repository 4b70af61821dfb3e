"""Evidence about beginnings: what is given up early, and that nothing else changes."""

import contextlib
import itertools
import math

import pytest
import torch

from esscher.align import SamplerConfig, fit, sample
from esscher.core import Condition, PrefixCondition, Target
from esscher.errors import ConfigError, TargetUnreachableError
from esscher.kit.lm.brackets import closes_only_open_brackets
from esscher.kit.lm.tabular import TabularLM
from tests.kit.lm.models import build, every_sequence

LM = TabularLM(alphabet=3, max_len=5, seed=2)
END = 3


def no_one_after_two(items):
    """Once broken it stays broken."""
    return [not any(a == 2 and b == 1 for a, b in itertools.pairwise(x)) for x in items]


def short(items):
    return [sum(t != END for t in x) <= 2 for x in items]


def has_zero(items):
    return [0 in x for x in items]


EARLY = Target(LM, PrefixCondition(no_one_after_two), PrefixCondition(short), Condition(has_zero))
LATE = Target(LM, Condition(no_one_after_two), Condition(short), Condition(has_zero))


def along_a_path(items):
    """Letters 0, 1, 0, 1, ... or 2 in place of any: each one rules half of what follows out."""
    return [all(t in (END, 2, i % 2) for i, t in enumerate(x)) for x in items]


def long(items):
    return [sum(t != END for t in x) >= 4 for x in items]


def estimates(target, method, runs=60, k=12):
    """Z by each run; 0 where all particles died."""
    config = SamplerConfig(particles=k)
    found = torch.zeros(runs, dtype=torch.float64)
    for s in range(runs):
        with contextlib.suppress(TargetUnreachableError):
            log_z = sample(target, method, n=1, seed=s, config=config).facts["log_z"]
            found[s] = math.exp(log_z.mean)
    return found


@pytest.mark.parametrize("method", ["smc", "awrs"])
def test_the_estimate_of_z_is_unbiased(method):
    z = math.exp(EARLY.table().log_z)
    found = estimates(EARLY, method)
    assert abs(float(found.mean()) - z) < 4 * float(found.std()) / math.sqrt(len(found))


def test_who_gives_up_early_knows_z_better():
    late = Target(LM, Condition(along_a_path), Condition(long))
    early = Target(LM, PrefixCondition(along_a_path), Condition(long))
    cases = ((late, "smc"), (early, "smc"), (early, "awrs"))
    waiting, dying, rejecting = (float(estimates(t, m, k=24).std()) for t, m in cases)
    assert dying < 0.85 * waiting
    assert rejecting < 0.6 * dying


@pytest.mark.parametrize("method", ["rejection", "smc", "awrs"])
def test_both_ways_to_say_it_are_one_target(method):
    torch.testing.assert_close(EARLY.table().log_probs, LATE.table().log_probs)
    drawn = sample(EARLY, method, n=3000, seed=1, config=SamplerConfig(particles=200))
    seen = torch.bincount(drawn.x, minlength=len(EARLY.table())).double() / 3000
    assert 0.5 * float((seen - EARLY.table().probs).abs().sum()) < 0.06


@pytest.mark.parametrize("kind", ["small", "gpt2"])
def test_z_of_a_network_against_every_sequence(kind):
    lm = build(kind)
    target = Target(lm, PrefixCondition(lambda items: [t.count("a") < 2 for t in items]))
    x = every_sequence(4, 3)
    z = float(target.log_density(x).exp().sum())
    for method in ("smc", "awrs"):
        found = sample(target, method, n=8, config=SamplerConfig(particles=300)).facts["log_z"]
        assert abs(found.mean - math.log(z)) < 4 * found.se + 0.01, method


def test_a_promise_that_is_broken_is_named():
    target = Target(LM, PrefixCondition(lambda items: [len(x) > 2 for x in items]))
    with pytest.raises(ConfigError, match="must stay false once it is"):
        sample(target, "smc", n=5)


def test_a_floor_gives_everybody_a_chance():
    items = [[2, 1], [0]]
    assert EARLY.has_chance(items).tolist() == [False, True]
    soft = Target(LM, PrefixCondition(no_one_after_two), floor=3.0)
    assert soft.has_chance(items).tolist() == [True, True]
    assert EARLY.tempered(0.0).has_chance(items).tolist() == [True, True]


def test_training_sees_an_ordinary_condition():
    a = fit(LM, Target(LM, PrefixCondition(short)), steps=5, batch=64).policy
    b = fit(LM, Target(LM, Condition(short)), steps=5, batch=64).policy
    assert torch.equal(a.module().logits, b.module().logits)


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("f(a[0], {", True),
        ("f)", False),
        ("(]", False),
        ("')'", True),
        ("'''a'b)''' )", False),
        ('"\\")"', True),
        ("# :)\n(", True),
        ("# :)\n)", False),
        ("'a\n)", False),
        ("'a\\\n)'", True),
        ("", True),
    ],
)
def test_brackets(text, fine):
    assert closes_only_open_brackets([text]) == [fine]


def test_a_bracket_stays_closed_wrongly():
    text = "def f(a):\n    x = [a, 'it)'] # )\n    return x)\n"
    verdicts = closes_only_open_brackets([text[:i] for i in range(len(text) + 1)])
    assert verdicts == sorted(verdicts, reverse=True)
    assert verdicts.index(False) == text.rindex(")") + 1
