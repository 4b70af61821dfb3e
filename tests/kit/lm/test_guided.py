"""A law led by a twist: the posterior where the twist is true, a law of its own elsewhere."""

import pytest
import torch
from scipy import stats

from esscher.core import Condition, Reward, Target
from esscher.kit.lm.guided import GuidedLaw
from esscher.kit.lm.tabular import TabularLM
from tests.kit.lm.models import build, every_sequence, vocab_of
from tests.worlds import seeded

LM = TabularLM(alphabet=2, max_len=4, seed=2)
TARGETS = {
    "soft": Target(LM, Reward(lambda items: [0.8 * len(i) - (i[-1] == 1) for i in items])),
    "hard": Target(LM, Condition(lambda items: [1 in i for i in items])),
}


def number(ids):
    row = torch.zeros(1, dtype=torch.long)
    for letter in ids:
        row = LM.network.child(row, torch.tensor([letter]))
    return int(row)


def true_twist(target):
    x = LM.enumerate()
    p0, worth = LM.log_prob(x).exp(), target.log_weight(x).exp()
    twist = LM.twist(bounded=False)
    total = torch.zeros_like(twist.table.logits)
    mass = torch.zeros_like(total)
    for ids, p, phi in zip(LM.items(x), p0, worth, strict=True):
        for t, token in enumerate(ids):
            total[number(ids[:t]), token] += p * phi
            mass[number(ids[:t]), token] += p
    with torch.no_grad():
        twist.table.logits.copy_((total / mass).log())
    return twist


def moved(twist):
    rng = seeded(4)
    with torch.no_grad():
        for p in twist.parameters():
            p.add_(torch.randn(p.shape, generator=rng, dtype=p.dtype))
    return twist


@pytest.mark.parametrize("kind", list(TARGETS))
def test_with_the_true_twist_it_is_the_posterior(kind):
    target = TARGETS[kind]
    law = GuidedLaw(LM, true_twist(target))
    x = LM.enumerate()
    torch.testing.assert_close(law.log_prob(x), target.table().log_prob(x), atol=1e-9, rtol=0)


def test_draws_follow_what_it_scores():
    law = GuidedLaw(LM, moved(LM.twist()))
    everything = LM.enumerate()
    probs = law.log_prob(everything).exp()
    assert float(probs.sum()) == pytest.approx(1.0)
    assert float((probs - LM.log_prob(everything).exp()).abs().sum()) > 0.2
    n = 20_000
    seen = torch.bincount(law.sample(n, rng=seeded(0)).x, minlength=len(probs)).double()
    assert stats.chisquare(seen.numpy(), (n * probs).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["small", "llama"])
@pytest.mark.parametrize("bounded", [True, False])
def test_on_a_network_decoding_and_scoring_agree(kind, bounded):
    lm = build(kind, max_new=3)
    law = GuidedLaw(lm, moved(lm.twist(bounded=bounded)))
    everything = every_sequence(vocab_of(lm), 3)
    assert float(law.log_prob(everything, context="ab").logsumexp(0)) == pytest.approx(0, abs=1e-5)
    drawn = law.sample(50, context=["a", "bc"] * 25, rng=seeded(1))
    again = law.log_prob(drawn.x, context=["a", "bc"] * 25)
    torch.testing.assert_close(drawn.log_prob, again, atol=1e-4, rtol=0)
    assert float((drawn.log_prob - lm.log_prob(drawn.x)).abs().max()) > 0.1
