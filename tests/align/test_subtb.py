"""Sub-trajectory balance: zero at the target, positive elsewhere, and where it ends."""

import sys

import pytest
import torch

from esscher.align.evaluate import evaluate
from esscher.align.fit import fit
from esscher.align.objectives.subtb import PathBatch, subtb
from esscher.align.paths import descend_paths
from esscher.align.propose import propose
from esscher.core import Reward, Target
from tests.align import worlds
from tests.kit.lm.models import build


def slow(gap, inside, lam):
    total = 0.0
    for row, here in zip(gap, inside, strict=True):
        known = row[here]
        pairs = [
            (lam ** (j - i - 1), (known[j] - known[i]) ** 2)
            for i in range(len(known))
            for j in range(i + 1, len(known))
        ]
        total += sum(w * d for w, d in pairs) / max(sum(w for w, _ in pairs), 1.0)
    return float(total) / len(gap)


@pytest.mark.parametrize("lam", [1.0, 0.5])
def test_the_loss_is_that_over_all_pairs(lam, monkeypatch):
    monkeypatch.setattr(sys.modules["esscher.align.objectives.subtb"], "LAMBDA", lam)
    gap = torch.randn(6, 5, generator=worlds.seeded(0), dtype=torch.float64)
    inside = torch.arange(5) < torch.tensor([1, 2, 3, 4, 5, 5])[:, None]
    assert float(subtb(PathBatch(gap, inside))) == pytest.approx(slow(gap, inside, lam))


def every(target, policy):
    """Every outcome once, as draws of the prior."""
    x = worlds.outcomes()
    draws = propose(target.prior, target, 4, rng=worlds.seeded(0))
    n = len(x)
    return draws._replace(
        x=x,
        groups=torch.zeros(n, dtype=torch.int64),
        log_q=target.prior.log_prob(x),
        log_prior=target.prior.log_prob(x),
        log_weight=target.log_weight(x),
        copies=torch.ones(n, dtype=torch.int64),
    )


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_it_is_zero_exactly_at_the_target(power):
    target = Target(worlds.prior(), *worlds.toy().evidence, prior_power=power)
    exact = worlds.of_log_probs(target.table().log_probs)
    loss, log_pi = descend_paths(exact, worlds.prior(), target, every(target, exact), 5.0)
    assert loss < 1e-20
    assert float(exact.module().logits.grad.abs().max()) < 1e-10
    torch.testing.assert_close(log_pi, target.table().log_probs, atol=1e-9, rtol=0)
    other = worlds.perturbed(1, 0.3)
    loss, _ = descend_paths(other, worlds.prior(), target, every(target, other), 5.0)
    assert loss > 0.1
    assert float(other.module().logits.grad.abs().max()) > 1e-3


def test_its_gradient_is_that_of_its_loss():
    target = worlds.toy()
    policy = worlds.perturbed(3, 0.3)
    draws = every(target, policy)
    before, _ = descend_paths(policy, worlds.prior(), target, draws, 5.0)
    gradient = policy.module().logits.grad.clone()
    at, eps = (4, 1), 1e-6
    with torch.no_grad():
        policy.module().logits[at] += eps
    after, _ = descend_paths(policy, worlds.prior(), target, draws, 5.0)
    assert (after - before) / eps == pytest.approx(float(gradient[at]), rel=1e-4)


@pytest.mark.parametrize("kind", ["small", "llama"])
def test_on_a_network_the_evidence_sees_every_prefix_with_its_end(kind):
    lm = build(kind, max_new=3)
    seen = []

    def watched(texts):
        seen.extend(texts)
        return [float(len(t)) for t in texts]

    target = Target(lm, Reward(watched))
    draws = propose(lm, target, 8, rng=worlds.seeded(1))
    seen.clear()
    loss, _ = descend_paths(lm.clone(), lm, target, draws, 5.0)
    texts = lm.items(draws.x)
    wanted = [t[:k] for t, n in zip(texts, draws.x.lengths.tolist(), strict=True) for k in range(n)]
    assert sorted(seen) == sorted(wanted)
    assert loss > 0


@pytest.mark.parametrize("proposal", ["on_policy", "prior"])
def test_it_comes_near_the_target(proposal):
    settings = {"steps": 300, "batch": 512}
    result = fit(worlds.prior(), worlds.toy(), "subtb", proposal=proposal, **settings)
    assert evaluate(worlds.prior(), worlds.toy()).tvd.mean > 0.3
    # The prior seldom draws what the target likes, so that its draws teach slowly.
    bound = 0.02 if proposal == "on_policy" else 0.05
    assert evaluate(result.policy, worlds.toy()).tvd.mean < bound
