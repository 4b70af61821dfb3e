"""Objectives over tokens: gradients against a plain rewrite, and that they miss the target."""

import pytest
import torch

from esscher.align.by_token import descend_tokens
from esscher.align.config import FitConfig
from esscher.align.evaluate import evaluate
from esscher.align.fit import fit
from esscher.align.objectives import OBJECTIVES
from esscher.align.objectives.grpo import KL_COEFFICIENT
from esscher.align.propose import propose
from esscher.align.train import init, step
from esscher.core import Condition, Law, Reward, Target
from esscher.errors import ConfigError
from tests.align import worlds
from tests.kit.lm.models import small

ENDS = {
    "grpo": (0.5, 1.0),
    "dr_grpo": (0.5, 1.0),
    "k3_token_loss_biased": (0.19, 0.24),
    "k3_ratio_token_loss_biased": (0.13, 0.18),
}
"""Total variation to the target where training ends."""
each = pytest.mark.parametrize("name", list(ENDS))


def length(items):
    return [float(len(item)) for item in items]


def moved(model):
    other = model.clone()
    rng = worlds.seeded(1)
    with torch.no_grad():
        for p in other.module().parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=rng, dtype=p.dtype))
    return other


def tokens(model, x, i):
    """Log-probabilities of the tokens of draw i, one by one, from the logits of its prefixes."""
    ids = model.sequences(x).lists()[i]
    prompt = model.prompts(None, 1)[0]
    out = []
    for t, token in enumerate(ids):
        before = torch.tensor([prompt + ids[:t]])
        last = torch.zeros_like(before, dtype=torch.bool)
        last[0, -1] = True
        out.append(model.token_logits(before, last).log_softmax(-1)[0, token].double())
    return torch.stack(out)


def plainly(name, policy, prior, draws):
    """The published loss, draw by draw."""
    total = 0.0
    for i in range(len(draws.log_weight)):
        group = draws.log_weight[draws.groups == draws.groups[i]]
        advantage = draws.log_weight[i] - group.mean()
        log_pi, log_ref = tokens(policy, draws.x, i), tokens(prior, draws.x, i).detach()
        ratio = (log_pi - log_pi.detach()).exp()
        if name == "dr_grpo":
            total = total - (ratio * advantage).sum()
            continue
        k3 = (log_ref - log_pi).exp() - (log_ref - log_pi) - 1
        if name == "k3_token_loss_biased":
            total = total - (ratio * advantage - k3).sum()
            continue
        if name == "k3_ratio_token_loss_biased":
            total = total - (ratio * (advantage - k3)).sum()
            continue
        gain = ratio * advantage / (group.std() + 1e-4) - KL_COEFFICIENT * k3
        total = total - gain.mean()
    return total / len(draws.log_weight)


@each
@pytest.mark.parametrize("kind", ["tabular", "small"])
def test_the_gradient_is_that_of_the_published_loss(name, kind):
    prior = worlds.prior() if kind == "tabular" else small(max_new=4)
    policy, target = moved(prior), Target(prior, Reward(length))
    draws = propose(policy, target, 12, rng=worlds.seeded(0))
    draws = draws._replace(groups=torch.arange(3).repeat_interleave(4))
    found = moved(prior)
    _, log_pi = descend_tokens(OBJECTIVES[name].loss, found, prior, draws, 5.0)
    torch.testing.assert_close(log_pi, policy.log_prob(draws.x), atol=1e-5, rtol=0)
    torch.autograd.backward(plainly(name, policy, prior, draws))
    for a, b in zip(found.module().parameters(), policy.module().parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4)
    assert max(float(p.grad.abs().max()) for p in policy.module().parameters()) > 1e-3


@each
def test_it_does_not_end_at_the_target(name):
    assert OBJECTIVES[name].minimises is None
    policy = fit(worlds.prior(), worlds.toy(), name, steps=300, batch=256, lr=0.05).policy
    low, high = ENDS[name]
    assert low < evaluate(policy, worlds.toy()).tvd.mean <= high
    right = fit(worlds.prior(), worlds.toy(), "reverse_kl", steps=300, batch=256, lr=0.05).policy
    assert evaluate(right, worlds.toy()).tvd.mean < 0.02


class Closed:
    """A language model whose tokens cannot be looked into."""

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name):
        if name in ("passes", "token_logits"):
            raise AttributeError(name)
        return getattr(self.model, name)


def test_closed_models_are_refused():
    prior = Closed(worlds.prior())
    assert isinstance(prior, Law)
    target = Target(prior, Condition(worlds.has_two))
    with pytest.raises(ConfigError, match="grpo looks at tokens and needs a prior whose"):
        step(init(worlds.prior().clone(), FitConfig("grpo", batch=4)), target, FitConfig("grpo"))
