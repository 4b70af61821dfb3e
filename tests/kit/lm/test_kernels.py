"""Moves on token sequences: each leaves the posterior where it is."""

import math

import pytest
import torch
from scipy import stats

from esscher.core import Reward, Target
from esscher.core.mcmc import Kernel, MixtureKernel, metropolis_hastings
from esscher.errors import ConfigError
from esscher.kit.lm.kernels import BlockKernel, SuffixKernel, log_prob_of
from esscher.kit.lm.sequences import Sequences
from esscher.kit.lm.tabular import TabularLM
from esscher.kit.lm.token_model import TokenModel
from tests.kit.lm.models import KINDS, build, every_sequence, small, vocab_of
from tests.worlds import seeded

LM = TabularLM(alphabet=2, max_len=4, seed=2)
TARGET = Target(LM, Reward(lambda items: [0.8 * len(i) - (i[-1] == 1) for i in items]))
KERNELS = {
    "suffix": SuffixKernel,
    "block": lambda lm: BlockKernel(lm, 2),
    "long block": lambda lm: BlockKernel(lm, 9),
    "mixture": lambda lm: MixtureKernel(BlockKernel(lm, 1), SuffixKernel(lm)),
}
POLICY = TabularLM(alphabet=2, max_len=4, seed=7)


@pytest.mark.parametrize("writer", [LM, POLICY], ids=["prior", "policy"])
@pytest.mark.parametrize("name", list(KERNELS))
def test_draws_of_the_posterior_stay_draws_of_the_posterior(name, writer):
    law = TARGET.table()
    n = 6000
    start = law.sample(n, rng=seeded(1)).x
    kernel = KERNELS[name](writer)
    assert isinstance(kernel, Kernel)
    found = metropolis_hastings(TARGET, kernel, 3, n, rng=seeded(2), start=start)
    assert 0.05 < found.acceptance.mean < 1
    seen = torch.bincount(found.x, minlength=len(law)).double()
    assert stats.chisquare(seen.numpy(), (n * law.probs).numpy()).pvalue > 1e-3
    assert float((found.x != start).double().mean()) > 0.1


def test_the_suffix_ratio_counts_places_to_cut():
    x = LM.sample(200, rng=seeded(0)).x
    move = SuffixKernel(LM).propose(x, context=None, rng=seeded(1))
    places = [torch.tensor([len(i) for i in LM.items(y)]).double().log() for y in (x, move.x)]
    wanted = LM.log_prob(x) - LM.log_prob(move.x) + places[0] - places[1]
    torch.testing.assert_close(move.log_q_ratio, wanted)
    assert bool((move.x != x).any())


def test_a_suffix_keeps_what_precedes_its_cut():
    x = torch.full((4000,), len(LM.enumerate()) - 1)
    old = LM.items(x)[0]
    new = LM.items(SuffixKernel(LM).propose(x, context=None, rng=seeded(1)).x)
    # The first letter survives unless the cut comes before it, one place in four.
    changed = sum(i[0] != old[0] for i in new) / len(new)
    first = LM.network.logits[0].softmax(0)[old[0]].item()
    assert abs(changed - 0.25 * (1 - first)) < 4 * math.sqrt(0.25 / 4000)


def test_blocks_keep_the_length_and_what_surrounds_them():
    lm = small(max_new=6)
    x = lm.sample(300, rng=seeded(0)).x
    move = BlockKernel(lm, 2).propose(x, context=None, rng=seeded(1))
    assert torch.equal(move.x.lengths, x.lengths)
    assert torch.equal(move.x.finished, x.finished)
    differs = (move.x.tokens != x.tokens) & x.mask()
    assert int(differs.sum(1).max()) <= 2
    assert int(differs.any(1).sum()) > 0
    ends = (move.x.tokens == lm.end) & x.mask()
    assert torch.equal(ends.sum(1), x.finished.long())
    same = ~differs.any(1)
    assert float(move.log_q_ratio[same].abs().max()) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_beginnings_add_up(kind):
    lm = build(kind, max_new=3)
    assert isinstance(lm, TokenModel)
    v = vocab_of(lm)
    x = every_sequence(v, 3)
    prompts = lm.prompts(None, len(x))
    torch.testing.assert_close(log_prob_of(lm, x, prompts), lm.log_prob(x), atol=1e-5, rtol=0)
    nothing = Sequences(x.tokens, torch.zeros_like(x.lengths), torch.zeros_like(x.finished))
    assert float(log_prob_of(lm, nothing, prompts).abs().max()) == 0.0
    # All strings of one token, ended or not: their beginnings sum to one.
    one = Sequences(torch.arange(v)[:, None], torch.ones(v).long(), torch.arange(v) == 0)
    assert float(log_prob_of(lm, one, prompts[:v]).logsumexp(0)) == pytest.approx(0.0, abs=1e-6)


def test_a_block_has_a_token():
    with pytest.raises(ConfigError, match="size=0"):
        BlockKernel(LM, 0)
