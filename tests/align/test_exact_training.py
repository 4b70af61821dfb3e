"""Where training ends when nothing is sampled: at the target, or, for the known mistakes, not."""

import pytest
import torch

from esscher.align.objectives import OBJECTIVES
from esscher.core import DIVERGENCES, exact, get_divergence
from esscher.kit.lm.tabular import TabularLM
from tests.align import worlds
from tests.align.test_exact_objectives import claimed

BETA = worlds.BETA
STEPS, PEAK = 1500, 0.05
ENOUGH = 500
"""Steps after which the losses that have an optimum inside the simplex stand still."""


def train(loss, steps):
    """Adam with cosine decay from the prior; returns the outcomes' log-probabilities."""
    policy = worlds.prior().clone()
    optimiser = torch.optim.Adam(policy.module().parameters(), lr=PEAK)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.autograd.backward(loss(policy))
        optimiser.step()
        schedule.step()
    return policy.log_prob(worlds.outcomes())


def summary(log_pi):
    """KL(π‖p*), TVD, E[r] of a law on the outcomes."""
    log_p = worlds.posterior()
    kl = float(exact(DIVERGENCES["reverse_kl"], log_pi, log_p))
    return kl, worlds.tvd(log_pi, log_p), float(log_pi.exp() @ worlds.rewards())


def of_divergence(name):
    divergence = get_divergence(name)
    return lambda policy: exact(divergence, policy.log_probs(), worlds.posterior())


def expected(name, log_q=None):
    """The objective's loss with every outcome in the batch once and its slope weighted by N q.

    For losses that are means over draws this is the expectation; a group of all outcomes gives
    leave-one-out baselines something to leave, and any baseline is unbiased.
    """

    def loss(policy):
        x = worlds.outcomes()
        log_pi = policy.log_probs()
        q = log_pi.detach() if log_q is None else log_q
        leaf = log_pi.detach().requires_grad_()
        batch = worlds.batch(policy, worlds.toy(), x, log_q=q)._replace(log_pi=leaf)
        (slope,) = torch.autograd.grad(OBJECTIVES[name].loss(batch), leaf)
        return (slope * len(x) * q.exp() * log_pi).sum()

    return loss


def variance(log_q):
    """Exact ½ Var_q[log π - log P], off-policy."""

    def loss(policy):
        d = policy.log_probs() - worlds.toy().log_density(worlds.outcomes())
        q = (policy.log_probs().detach() if log_q is None else log_q).exp()
        return 0.5 * (q * (d - (q * d).sum()) ** 2).sum()

    return loss


def weighted_regression(policy):
    """Reward-weighted regression: weights exp(r/β) on draws of the prior."""
    weight = (worlds.rewards() / BETA + worlds.log_prior()).exp()
    return -(weight / weight.sum() * policy.log_probs()).sum()


def all_preferences(policy):
    """DPO on every pair of outcomes, weighted by p0 p0 and labelled by exact Bradley-Terry odds."""
    score = policy.log_probs() - worlds.log_prior()
    h, p0 = score[:, None] - score[None, :], worlds.log_prior().exp()
    label = ((worlds.rewards()[:, None] - worlds.rewards()[None, :]) / BETA).sigmoid()
    return -(p0[:, None] * p0[None, :] * label * torch.nn.functional.logsigmoid(h)).sum()


def balance(policy):
    """Trajectory balance with the normaliser that suits the policy best, prior draws."""
    p0 = worlds.log_prior().exp()
    gap = policy.log_probs() - worlds.toy().log_density(worlds.outcomes())
    return 0.5 * (p0 * (gap - (p0 * gap).sum().detach()) ** 2).sum()


@pytest.mark.parametrize(
    "steps", [ENOUGH, pytest.param(STEPS, marks=pytest.mark.slow)], ids=["short", "spec"]
)
@pytest.mark.parametrize(
    ("loss", "bound"),
    [
        (of_divergence("forward_kl"), 1e-6),
        (of_divergence("js"), 1e-6),
        (of_divergence("reverse_kl"), 1e-6),
        (of_divergence("tv"), 1e-4),
        (of_divergence("chi2_reverse"), 1e-6),
        (of_divergence("hellinger"), 1e-6),
        (of_divergence("alpha:0.5"), 1e-6),
        (of_divergence("alpha:2"), 1e-6),
        (balance, 1e-6),
        (variance(None), 1e-6),
        (variance(worlds.log_prior()), 1e-6),
        (weighted_regression, 1e-6),
        (expected("forward_kl", worlds.log_prior()), 1e-6),
    ],
    ids=[
        "forward_kl", "js", "reverse_kl", "tv", "chi2_reverse", "hellinger",
        "alpha:0.5", "alpha:2", "trajectory_balance", "vargrad", "vargrad_off_policy",
        "rwr_from_prior", "objective_off_policy",
    ],
)  # fmt: skip
def test_the_target_is_reached(loss, bound, steps):
    assert summary(train(loss, steps))[1] < bound


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [of_divergence("chi2_forward"), of_divergence("alpha:-1"), all_preferences],
    ids=["chi2_forward", "alpha:-1", "dpo"],
)
def test_the_target_is_reached_after_a_long_plateau(loss):
    """Steep where the model misses mass, or flat where pairs are decided: 500 steps are too few."""
    assert summary(train(loss, STEPS))[1] < 1e-6


def test_iterated_reweighting_is_another_target():
    """Exponential weights on one's own draws, k times over, is p0 exp(k r/β): it collapses."""
    log_pi = worlds.log_prior()
    means = []
    for _ in range(5):
        log_pi = torch.log_softmax(log_pi + worlds.rewards() / BETA, 0)
        means.append(float(log_pi.exp() @ worlds.rewards()))
    assert means == pytest.approx([0.498, 1.41, 2.01, 2.20, 2.24], abs=0.006)


def token_index():
    """[364, 5] position of every step in the flattened logits, and which steps there are."""
    index = torch.zeros(364, 5, dtype=torch.int64)
    used = torch.zeros(364, 5, dtype=torch.bool)
    for row, item in enumerate(worlds.prior().items(worlds.outcomes())):
        prefix, level = 0, 0
        for t, token in enumerate(item):
            index[row, t], used[row, t] = (level + prefix) * 4 + token, True
            level, prefix = level + 3**t, prefix * 3 + token
    return index, used


INDEX, USED = token_index()


def token_log_probs(policy: TabularLM):
    """[364, 5] log-probability of every token, 0 beyond the end."""
    steps = torch.log_softmax(policy.module().logits, 1).flatten()[INDEX]
    return torch.where(USED, steps, 0.0)


def reward_term(log_pi, values):
    """-E_π[values] as REINFORCE sees it: values detached, no baseline needed."""
    return -(log_pi.exp().detach() * values.detach() * log_pi).sum()


def penalty_term(log_pi, values):
    """β E_π[values] with the expectation held fixed and the values differentiated: KL as loss."""
    return BETA * (log_pi.exp().detach() * values).sum()


def k1(u):
    return -u


def k2(u):
    return u**2 / 2


def k3(u):
    return torch.expm1(u) - u


def as_loss(estimator):
    def loss(policy):
        log_pi = policy.log_probs()
        u = worlds.log_prior() - log_pi
        return reward_term(log_pi, worlds.rewards()) + penalty_term(log_pi, estimator(u))

    return loss


def in_reward(estimator):
    def loss(policy):
        log_pi = policy.log_probs()
        u = worlds.log_prior() - log_pi
        return reward_term(log_pi, worlds.rewards() - BETA * estimator(u))

    return loss


def per_token(policy, *, ratio=False, standardised=False):
    tokens = token_log_probs(policy)
    log_pi = tokens.sum(1)
    penalty = k3(token_log_probs(worlds.prior()).detach() - tokens)
    if ratio:
        penalty = penalty * (tokens - tokens.detach()).exp()
    advantage = worlds.rewards()
    if standardised:
        pi = log_pi.exp().detach()
        mean = pi @ advantage
        advantage = (advantage - mean) / (pi @ (advantage - mean) ** 2).sqrt()
    return reward_term(log_pi, advantage) + penalty_term(log_pi, penalty.sum(1))


def test_token_log_probs_add_up():
    assert torch.allclose(token_log_probs(worlds.prior()).sum(1), worlds.prior().log_probs())


# Spec 2.3: where each way to put the KL to the prior into the loss ends, as (KL(π‖p*), TVD, E[r]).
# The ones that take all 1500 steps have no optimum inside the simplex and still move then.
ENDS = {
    "k1_in_reward": (in_reward(k1), ENOUGH, (0.0, 0.0, 0.4984)),
    "k2_as_loss": (as_loss(k2), ENOUGH, (0.0, 0.0, 0.4984)),
    "k1_as_loss": (as_loss(k1), STEPS, (4.55, 0.986, 2.249)),
    "k2_in_reward": (in_reward(k2), ENOUGH, (0.638, 0.445, 0.699)),
    "k3_in_reward": (in_reward(k3), STEPS, (1.54, 0.784, 0.894)),
    "k3_as_loss": (as_loss(k3), STEPS, (2.75, 0.743, 1.750)),
    "k3_per_token": (per_token, ENOUGH, (0.157, 0.212, 0.748)),
    "k3_ratio_per_token": (lambda p: per_token(p, ratio=True), ENOUGH, (0.065, 0.154, 0.661)),
    "k3_ratio_per_token_std": (
        lambda p: per_token(p, ratio=True, standardised=True),
        STEPS,
        (1.05, 0.557, 1.414),
    ),
}


@pytest.mark.parametrize("name", list(ENDS))
def test_where_each_kl_term_ends(name):
    loss, steps, (kl, tvd, reward) = ENDS[name]
    found = summary(train(loss, steps))
    assert found[0] == pytest.approx(kl, abs=1e-6 if kl == 0 else 0.006)
    assert found[1] == pytest.approx(tvd, abs=1e-6 if tvd == 0 else 0.001)
    assert found[2] == pytest.approx(reward, abs=0.001)


@pytest.mark.parametrize("name", ["k1_as_loss", "k2_in_reward", "k3_in_reward", "k3_as_loss"])
def test_each_descends_what_the_objective_of_its_name_claims(name):
    """Hence the objective, whose gradient is held to the claim elsewhere, ends where this does."""
    policy = worlds.perturbed(0)
    found = worlds.gradient(ENDS[name][0](policy), policy) / BETA
    objective = name.replace("_in_", "_").replace("_as_", "_") + "_biased"
    wanted = worlds.gradient(claimed(objective, policy, worlds.toy(), None), policy)
    assert torch.allclose(found, wanted, atol=1e-10)


def test_k1_as_loss_is_no_kl_at_all():
    policy = worlds.perturbed(0)
    with_kl = worlds.gradient(as_loss(k1)(policy), policy)
    without = worlds.gradient(reward_term(policy.log_probs(), worlds.rewards()), policy)
    assert torch.allclose(with_kl, without, atol=1e-12)


def test_without_the_kl_the_entropy_goes():
    log_pi = train(lambda policy: reward_term(policy.log_probs(), worlds.rewards()), STEPS)
    entropy = -float(log_pi.exp() @ log_pi)
    lost = float(exact(DIVERGENCES["forward_kl"], log_pi, worlds.posterior()))
    assert float(log_pi.exp() @ worlds.rewards()) == pytest.approx(2.249, abs=0.001)
    assert entropy == pytest.approx(0.575, abs=0.002)
    assert lost == pytest.approx(8.27, abs=0.02)
