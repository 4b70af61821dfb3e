"""Every objective against the divergence it names: expectations over every batch of two draws."""

import itertools
import math

import pytest
import torch

from esscher.align.objectives import OBJECTIVES, get_objective
from esscher.align.propose import floored, propose
from esscher.core import Condition, Reward, Table, Target, best_of_n_law, exact, get_divergence
from esscher.errors import ConfigError
from esscher.kit.lm.tabular import TabularLM
from tests.align import worlds

BATCHWISE = ("rwr", "rwr_iterated", "raft_iterated", "best_of_n_distillation")
"""Their weights depend on the whole batch: a mean over batches of two is not what they descend."""
ON_DRAWS = [name for name, objective in OBJECTIVES.items() if not objective.per_token]
EXACT = [name for name in ON_DRAWS if name not in BATCHWISE]
ANY_PROPOSAL = [name for name in EXACT if not OBJECTIVES[name].on_policy_only]
CASES = [(name, False) for name in EXACT] + [(name, True) for name in ANY_PROPOSAL]
NAMED = {"sft_posterior": "forward_kl", "rwr": "forward_kl", "reinforce": "reverse_kl"}
REWARDED = {
    **dict.fromkeys(("rl", "rwr_iterated", "raft_iterated", "k1_loss_biased"), lambda *_: 0.0),
    "k2_reward_biased": lambda k2, reverse, forward: k2 - reverse,
    "k3_reward_biased": lambda k2, reverse, forward: reverse - forward,
    "k3_loss_biased": lambda k2, reverse, forward: forward,
}
"""What is added to -E_π[G], of E_π[k2], KL(π‖p0) and KL(p0‖π)."""
FLOOR = 5.0


def mixture(policy):
    """Half the policy, half the uniform law on all outcomes."""
    log_pi = policy.log_prob(policy.enumerate())
    return torch.logaddexp(log_pi, torch.full_like(log_pi, -math.log(len(log_pi)))) - math.log(2)


def claimed(name, policy, target, log_q):
    """What an objective says it minimises, [] with graph."""
    log_pi, x = policy.log_probs(), policy.enumerate()
    if name in REWARDED:
        pi, u = log_pi.exp(), target.prior.log_prob(x) - log_pi
        reverse, forward = -(pi * u).sum(), (u.exp() * pi * u).sum()
        penalty = REWARDED[name](0.5 * (pi * u * u).sum(), reverse, forward)
        return -(pi * target.log_weight(x)).sum() + penalty
    if name == "best_of_n_distillation":
        prior = Table(target.prior.log_prob(x))
        return -(best_of_n_law(prior, target.log_weight(x), 8).probs * log_pi).sum()
    if name == "vargrad":
        d, q = log_pi - target.log_density(x), log_q.exp()
        return 0.5 * (q * (d - (q * d).sum()) ** 2).sum()
    if name == "trajectory_balance":
        gap = target.table().log_z + log_pi - target.log_density(x)
        return 0.5 * (log_q.exp() * gap * gap).sum()
    if name == "dpo":
        score = log_pi - target.prior.log_prob(x)
        h, q = score[:, None] - score[None, :], log_q.exp()
        g = target.log_weight(x)
        label = (g[:, None] - g[None, :]).sigmoid()
        return -(q[:, None] * q[None, :] * (label * h.sigmoid().log())).sum() * 2
    divergence = get_divergence(NAMED.get(name, name))
    return exact(divergence, log_pi, target.table().log_probs)


def expected_gradient(name, policy, target, log_q):
    """The loss gradient averaged over every pair of independent draws from q, nothing sampled."""
    n = len(log_q)
    coefficient = torch.zeros(n, dtype=torch.float64)
    for i in range(n):
        j = torch.arange(i, n)
        pairs = torch.stack([torch.full_like(j, i), j], 1)
        weight = torch.where(i == j, 1.0, 2.0) * log_q[pairs].sum(1).exp()
        slopes = weight[:, None] * slopes_of(name, policy, target, pairs, log_q)
        coefficient.index_add_(0, pairs.flatten(), slopes.flatten())
    return worlds.gradient((coefficient * policy.log_probs()).sum(), policy)


def slopes_of(name, policy, target, batches, log_q):
    """Derivative in log π of the loss of each batch (a row of outcomes), [N, size]."""
    groups = torch.arange(len(batches)).repeat_interleave(batches.shape[1])
    copies = (batches[:, :, None] == batches[:, None, :]).sum(2).flatten()
    batch = worlds.batch(
        policy, target, batches.flatten(), log_q=log_q, groups=groups, copies=copies
    )
    leaf = batch.log_pi.detach().requires_grad_()
    (slope,) = torch.autograd.grad(get_objective(name).loss(batch._replace(log_pi=leaf)), leaf)
    # The loss averages over groups; each is a batch of its own here.
    return (slope * len(batches)).view(batches.shape)


@pytest.fixture(params=[3, pytest.param(5, marks=pytest.mark.slow)], ids=["40", "364"])
def max_len(request):
    """40 outcomes and 820 pairs; the toy's 364 and 66430 take ten seconds for some objectives."""
    return request.param


def check(name, policy, target, log_q):
    got = expected_gradient(name, policy, target, log_q)
    wanted = worlds.gradient(claimed(name, policy, target, log_q), policy)
    assert float(wanted.norm()) > 1e-3
    assert float((got - wanted).norm() / wanted.norm()) < 1e-8


@pytest.mark.parametrize(("name", "off_policy"), CASES)
def test_the_expected_gradient_is_that_of_the_divergence(name, off_policy, max_len):
    policy, target = worlds.perturbed(1, 0.7, max_len), worlds.toy(max_len)
    log_q = mixture(policy) if off_policy else policy.log_prob(policy.enumerate())
    check(name, policy, target, log_q)


@pytest.mark.parametrize("name", [n for n in EXACT if not OBJECTIVES[n].needs_floor])
def test_hard_evidence_needs_no_floor(name, max_len):
    policy = worlds.perturbed(2, 0.7, max_len)
    check(name, policy, worlds.hard(max_len), mixture(policy))


@pytest.mark.parametrize("name", [n for n in EXACT if OBJECTIVES[n].needs_floor])
def test_a_floored_target_is_a_target(name, max_len):
    policy = worlds.perturbed(2, 0.7, max_len)
    target = worlds.hard(max_len).with_floor(FLOOR)
    check(name, policy, target, policy.log_prob(policy.enumerate()))


@pytest.mark.parametrize("name", ["forward_kl"])
def test_on_the_whole_toy(name):
    policy, target = worlds.perturbed(1, 0.7), worlds.toy()
    check(name, policy, target, mixture(policy))


def test_flooring_draws_is_the_same_as_flooring_the_target():
    weight = worlds.hard().log_weight(worlds.outcomes())
    assert bool((weight == -torch.inf).any())
    same = worlds.hard().with_floor(FLOOR).log_weight(worlds.outcomes())
    assert torch.equal(floored(weight, FLOOR), same)


@pytest.mark.parametrize("name", ["forward_kl", "sft_posterior", "js"])
def test_a_normaliser_per_draw_counts_draw_by_draw(name):
    policy, target = worlds.perturbed(3), worlds.toy()
    index = torch.tensor([5, 9, 100, 200])
    batch = worlds.batch(policy, target, index)
    shared = OBJECTIVES[name].loss(batch)
    each = OBJECTIVES[name].loss(batch._replace(log_z=batch.log_z.expand(4)))
    other = OBJECTIVES[name].loss(batch._replace(log_z=batch.log_z + torch.arange(4.0)))
    assert float(shared.detach()) == pytest.approx(float(each.detach()), abs=1e-12)
    assert abs(float(shared.detach()) - float(other.detach())) > 1e-3


@pytest.mark.parametrize("groups", [1, 4])
def test_on_policy_vargrad_is_reverse_kl(groups):
    policy, target = worlds.perturbed(4), worlds.toy()
    index = policy.sample(64, rng=worlds.seeded(0)).x
    label = torch.arange(groups).repeat_interleave(64 // groups)
    batch = worlds.batch(policy, target, index, groups=label)
    a, b = (worlds.gradient(OBJECTIVES[n].loss(batch), policy) for n in ("vargrad", "reverse_kl"))
    assert float((a - b).abs().max()) < 1e-10
    assert float(a.abs().max()) > 1e-4


@pytest.mark.parametrize("name", ["reverse_kl", "rl", "js", "vargrad"])
def test_groups_do_not_mix(name):
    policy, target = worlds.perturbed(5), worlds.toy()
    index = policy.sample(24, rng=worlds.seeded(1)).x
    label = torch.tensor([3, 8]).repeat_interleave(12)
    both = OBJECTIVES[name].loss(worlds.batch(policy, target, index, groups=label))
    parts = [OBJECTIVES[name].loss(worlds.batch(policy, target, p)) for p in index.view(2, 12)]
    mean = worlds.gradient(sum(parts) / 2, policy)
    assert torch.allclose(worlds.gradient(both, policy), mean, atol=1e-12)


@pytest.mark.parametrize("name", ON_DRAWS)
def test_constant_evidence_moves_only_what_it_should(name):
    """Where target and model agree, a gradient is noise at most, and zero for the quiet ones."""
    target = Target(worlds.prior(), Reward(lambda items: [3.0] * len(items)))
    policy = worlds.prior().clone()
    batch = worlds.batch(policy, target, policy.sample(32, rng=worlds.seeded(0)).x)
    norm = float(worlds.gradient(OBJECTIVES[name].loss(batch), policy).norm())
    if OBJECTIVES[name].noisy:
        assert norm > 1e-2
    else:
        assert norm < 1e-12


def tiny_world():
    """Seven outcomes, two of them ruled out."""
    model = TabularLM(2, 2, seed=3)
    return model, Target(model, Condition(lambda items: [s[0] != 1 for s in items]))


def tiny_batch(model, target, log_q, batches):
    x = model.enumerate()
    size = batches.shape[1]
    batch = worlds.objectives.Batch(
        log_pi=model.log_prob(x)[batches.flatten()],
        log_q=log_q[batches.flatten()],
        log_target=target.log_density(x)[batches.flatten()],
        log_weight=target.log_weight(x)[batches.flatten()],
        log_z=torch.tensor(target.table().log_z),
        groups=torch.arange(len(batches)).repeat_interleave(size),
        copies=(batches[:, :, None] == batches[:, None, :]).sum(2).flatten(),
    )
    leaf = batch.log_pi.requires_grad_()
    (slope,) = torch.autograd.grad(OBJECTIVES["sft_posterior"].loss(batch), leaf)
    return slope.view(batches.shape) * len(batches)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_inclusion_weights_are_unbiased_over_all_batches(size):
    model, target = tiny_world()
    log_q = TabularLM(2, 2, seed=8).log_prob(model.enumerate())
    batches = torch.tensor(list(itertools.product(range(7), repeat=size)))
    weight = log_q[batches].sum(1).exp()
    slopes = weight[:, None] * tiny_batch(model, target, log_q, batches)
    mean = torch.zeros(7, dtype=torch.float64).index_add(0, batches.flatten(), slopes.flatten())
    assert torch.allclose(-mean, target.table().probs, atol=1e-12)


@pytest.mark.parametrize("prompts", [None, ["p"], ["p", "q"]], ids=["none", "one", "two"])
def test_inclusion_weights_are_unbiased_on_what_is_drawn(prompts):
    """Groups may share a prompt; a draw's copies are those in its own group."""
    model, target = tiny_world()
    rng = worlds.seeded(11)
    sums = []
    for _ in range(600):
        draws = propose(model, target, 12, prompts=prompts, group=4, rng=rng)
        leaf = torch.zeros(len(draws.log_q), dtype=torch.float64, requires_grad=True)
        batch = worlds.objectives.Batch(
            leaf, draws.log_q, draws.log_target, draws.log_weight,
            torch.tensor(target.table().log_z), draws.groups, draws.copies,
        )  # fmt: skip
        (slope,) = torch.autograd.grad(OBJECTIVES["sft_posterior"].loss(batch), leaf)
        sums.append(torch.zeros(7, dtype=torch.float64).index_add(0, draws.x, -slope))
    found = torch.stack(sums)
    mean, se = found.mean(0), found.std(0) / len(sums) ** 0.5
    assert bool(((mean - target.table().probs).abs() <= 4 * se + 1e-12).all())


def test_inclusion_weights_of_improbable_texts():
    """A long text has a log-probability far below what float64 can exponentiate."""
    log_q = torch.tensor([-2000.0, -800.0, -700.0, -5.0], dtype=torch.float64)
    leaf = log_q.clone().requires_grad_()
    zeros, ones = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    batch = worlds.objectives.Batch(
        leaf, log_q, log_q + 1.0, torch.ones(4), torch.tensor(0.5), zeros, ones
    )
    (slope,) = torch.autograd.grad(OBJECTIVES["sft_posterior"].loss(batch), leaf)
    # P/q = e and Z = exp(.5): each draw counts exp(.5) / n where nothing repeats.
    assert (-slope[:3]).tolist() == pytest.approx([math.exp(0.5) / 4] * 3, rel=1e-9)
    assert float(-slope[3]) == pytest.approx(
        math.exp(-4.5) / -math.expm1(4 * math.log1p(-math.exp(-5.0))), rel=1e-9
    )


def whole_batch(seed=0, n=4000, policy=None):
    """Draws of the prior on which a policy some way off is trained."""
    policy = worlds.perturbed(6) if policy is None else policy
    index = worlds.prior().sample(n, rng=worlds.seeded(seed)).x
    return policy, worlds.batch(policy, worlds.toy(), index, log_q=worlds.log_prior())


def test_reward_weighted_regression_descends_forward_kl():
    """Every outcome once, from a uniform law: the weights that sum to one are those of p*."""
    policy, x = worlds.perturbed(6), worlds.outcomes()
    uniform = torch.full((len(x),), -math.log(len(x)), dtype=torch.float64)
    batch = worlds.batch(policy, worlds.toy(), x, log_q=uniform)
    found = worlds.gradient(OBJECTIVES["rwr"].loss(batch), policy)
    wanted = worlds.gradient(claimed("forward_kl", policy, worlds.toy(), None), policy)
    assert float((found - wanted).abs().max()) < 1e-12
    own = worlds.gradient(OBJECTIVES["rwr_iterated"].loss(batch), policy)
    assert float((own - wanted).abs().max()) > 1e-3


def test_a_group_without_a_satisfying_draw_says_nothing():
    _, batch = whole_batch(n=6)
    weight = torch.tensor([-torch.inf] * 3 + [0.0, -torch.inf, 0.0], dtype=torch.float64)
    groups = torch.arange(2).repeat_interleave(3)
    batch = batch._replace(log_weight=weight, log_target=batch.log_q + weight, groups=groups)
    leaf = batch.log_pi.detach().requires_grad_()
    for name in ("rwr", "rwr_iterated"):
        (slope,) = torch.autograd.grad(OBJECTIVES[name].loss(batch._replace(log_pi=leaf)), leaf)
        assert slope.tolist() == [0, 0, 0, -0.25, 0, -0.25]


@pytest.mark.parametrize("name", ["best_of_n_distillation", "raft_iterated"])
def test_the_best_of_eight_is_the_law_that_is_imitated(name):
    _, batch = whole_batch(n=60)
    leaf = batch.log_pi.detach().requires_grad_()
    (slope,) = torch.autograd.grad(OBJECTIVES[name].loss(batch._replace(log_pi=leaf)), leaf)
    law = best_of_n_law(Table(torch.zeros(60)), batch.log_weight, 8)
    torch.testing.assert_close(-slope, law.probs)
    assert float(law.probs.max()) > 3 * float(law.probs.min())


def test_preferences_take_two():
    _, batch = whole_batch(n=3)
    with pytest.raises(ConfigError, match="group 7 has one"):
        OBJECTIVES["dpo"].loss(batch._replace(groups=torch.tensor([3, 3, 7])))


@pytest.mark.parametrize("alpha", ["-1", "0.3", "2"])
def test_the_rest_of_the_alpha_family(alpha):
    policy = worlds.perturbed(1, 0.7, 3)
    check(f"alpha:{alpha}", policy, worlds.toy(3), mixture(policy))
    assert get_objective(f"alpha:{alpha}").needs_floor == (alpha == "2")


@pytest.mark.parametrize(
    ("name", "meant"), [("rloo", "reverse_kl"), ("DPG", "forward_kl"), ("vargard", "vargrad")]
)
def test_other_names_for_objectives_are_understood(name, meant):
    with pytest.raises(ConfigError, match=f"did you mean {meant!r}"):
        get_objective(name)
    with pytest.raises(ConfigError, match="alpha"):
        get_objective("alpha:x")
