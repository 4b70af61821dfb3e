"""Quasi-rejection from a proposal: the bound is chosen, the law is what it says."""

import pytest
import torch

from esscher.align.sampling import sample_posterior
from esscher.core import Condition, Reward, Target
from esscher.errors import ConfigError
from esscher.kit.lm.tabular import TabularLM

LM = TabularLM(alphabet=2, max_len=3)
SOFT = Target(LM, Reward(lambda xs: [float(len(x)) for x in xs], beta=0.5))


@pytest.mark.parametrize("tvd", [0.02, 0.1, 0.3])
def test_draws_are_as_close_as_asked(tvd):
    drawn = sample_posterior(SOFT, LM, 20_000, tvd=tvd, seed=3)
    frequency = torch.bincount(drawn.x, minlength=len(LM.enumerate())).double() / len(drawn.x)
    distance = 0.5 * (frequency - SOFT.table().probs).abs().sum()
    noise = 0.5 * float((SOFT.table().probs / 20_000).sqrt().sum())
    assert float(distance) <= tvd + noise + 0.02
    assert abs(drawn.quality.tvd.mean - tvd) <= 0.05 or drawn.quality.tvd.mean < tvd


def test_a_looser_distance_accepts_more():
    rates = [sample_posterior(SOFT, LM, 100, tvd=t).quality.acceptance.mean for t in (0.02, 0.3)]
    assert rates[1] > rates[0] + 0.1


def test_hard_evidence_from_the_prior_is_plain_rejection():
    target = Target(LM, Condition(lambda xs: [x[-1] == 2 for x in xs]))
    drawn = sample_posterior(target, LM, 500, log_bound=0.0)
    share = float(LM.log_prob(LM.enumerate()).exp()[target.log_weight(LM.enumerate()) == 0].sum())
    assert drawn.quality.tvd.mean < 1e-9
    assert abs(drawn.quality.acceptance.mean - share) < 4 * drawn.quality.acceptance.se
    assert all(text[-1] == 2 for text in LM.items(drawn.x))


def test_same_seed_same_draws():
    first, second, other = (sample_posterior(SOFT, LM, 50, seed=s).x for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("tvd", [0.0, 1.0, -1.0])
def test_distance_out_of_range(tvd):
    with pytest.raises(ConfigError, match="tvd must lie in"):
        sample_posterior(SOFT, LM, 10, tvd=tvd)
