import math

import pytest
import torch

from esscher.core import (
    Condition,
    IndependenceKernel,
    Kernel,
    Move,
    Table,
    Target,
    metropolis_hastings,
    split_rhat,
)
from esscher.core.mcmc import log_acceptance
from esscher.errors import ConfigError, NumericsError, ShapeError, TargetUnreachableError
from tests.core.test_sample import p_value
from tests.worlds import (
    MAX_LEN,
    SEQUENCES,
    random_law,
    seeded,
    toy_posterior,
    toy_prior,
    toy_target,
)


def transition(log_p, log_move):
    """Metropolis-Hastings transition matrix for proposal probabilities log_move [from, to]."""
    n = len(log_p)
    rows, cols = torch.arange(n).repeat_interleave(n), torch.arange(n).repeat(n)
    ratio = (log_move.T - log_move).flatten()
    accept = log_acceptance(log_p[cols], log_p[rows], ratio).exp().view(n, n)
    move = log_move.exp() * accept
    return move + torch.diag(1 - move.sum(1))


class Neighbour:
    """A lopsided step on a ring of n states."""

    def __init__(self, n):
        self.n = n

    def propose(self, x, *, context, rng):
        right = torch.rand(len(x), generator=rng) < 0.7
        ratio = torch.where(right, math.log(0.3 / 0.7), math.log(0.7 / 0.3))
        return Move(torch.where(right, x + 1, x - 1) % self.n, ratio)


def test_independence_kernel_leaves_the_posterior_invariant():
    q = toy_prior().log_probs
    matrix = transition(toy_posterior().log_probs, q.expand(len(q), len(q)))
    p = toy_posterior().probs
    assert float((p @ matrix - p).abs().max()) < 1e-12
    # And it moves: the prior is not invariant.
    assert float((toy_prior().probs @ matrix - toy_prior().probs).abs().max()) > 1e-3


def test_general_proposals_leave_the_posterior_invariant():
    log_move = torch.stack([random_law(9, seed) for seed in range(9)])
    p = random_law(9, 99)
    matrix = transition(p, log_move)
    assert float((p.exp() @ matrix - p.exp()).abs().max()) < 1e-12


def cuts(text):
    """Places a text can be cut at: before each of its letters and before its end, if it has one."""
    return min(len(text) + 1, MAX_LEN)


class Suffix:
    """Cuts a text at a uniform place and lets the prior write the rest."""

    def __init__(self, *, corrected):
        self.prior, self.corrected = toy_prior(), corrected
        starts = {t[:k] for t in SEQUENCES for k in range(cuts(t))}
        self.inside = {
            p: torch.tensor([i for i, t in enumerate(SEQUENCES) if t.startswith(p)]) for p in starts
        }

    def propose(self, x, *, context, rng):
        new = x.clone()
        for row, i in enumerate(x.tolist()):
            text = SEQUENCES[i]
            place = int(torch.randint(cuts(text), (1,), generator=rng))
            among = self.inside[text[:place]]
            new[row] = among[torch.multinomial(self.prior.probs[among], 1, generator=rng)]
        n = [torch.tensor([cuts(SEQUENCES[i]) for i in y.tolist()]).log() for y in (x, new)]
        ratio = self.prior.log_prob(x) - self.prior.log_prob(new)
        return Move(new, ratio + (n[0] - n[1] if self.corrected else 0.0))


def test_rewriting_the_end_needs_the_length_correction():
    found = {}
    for corrected in (True, False):
        result = metropolis_hastings(
            toy_target(), Suffix(corrected=corrected), 25, 2000, rng=seeded(0)
        )
        found[corrected] = p_value(result.x, toy_posterior())
    assert found[True] > 0.001
    assert found[False] < 1e-6


def test_exact_mixing_of_the_toy_chain():
    q = toy_prior().log_probs
    matrix = transition(toy_posterior().log_probs, q.expand(len(q), len(q)))
    p, law, tvd = toy_posterior().probs, toy_prior().probs, {}
    for step in range(1, 257):
        law = law @ matrix
        tvd[step] = 0.5 * float((law - p).abs().sum())
    print({k: tvd[k] for k in (1, 4, 16, 64, 256)})
    assert tvd[64] <= 0.01
    assert tvd[256] < tvd[64] < tvd[16] < tvd[1]


def test_independence_chains_reach_the_posterior():
    result = metropolis_hastings(toy_target(), toy_prior(), 300, 4000, rng=seeded(0))
    assert p_value(result.x, toy_posterior()) > 0.001
    assert torch.equal(result.log_target, toy_target().log_density(result.x))
    assert torch.equal(result.trace[-1], result.log_target)
    q, p = toy_prior().log_probs, toy_posterior().log_probs
    rate = toy_posterior().probs @ (
        toy_prior().probs * log_acceptance(p[None, :], p[:, None], q[:, None] - q[None, :]).exp()
    ).sum(1)
    late = metropolis_hastings(
        toy_target(), toy_prior(), 100, 2000, rng=seeded(1), start=result.x[:2000]
    )
    assert abs(late.acceptance.mean - float(rate)) < 4 * late.acceptance.se
    assert late.rhat < 1.1


def test_own_kernels_with_a_lopsided_step():
    law = Table(random_law(6, 0))
    target = Target(Table(torch.zeros(6)), Likely(law))
    kernel = Neighbour(6)
    assert isinstance(kernel, Kernel)
    assert isinstance(IndependenceKernel(law), Kernel)
    result = metropolis_hastings(target, kernel, 200, 5000, rng=seeded(0))
    assert p_value(result.x, law) > 0.001


class Likely:
    name = "likely"

    def __init__(self, law):
        self.law = law

    def log_weight(self, items, contexts):
        return self.law.log_probs[torch.as_tensor(items)]


def test_chains_started_at_density_zero_escape():
    target = Target(toy_prior(), Condition(lambda texts: ["c" in t for t in texts]))
    start = torch.zeros(200, dtype=torch.int64)
    assert bool((target.log_density(start) == -torch.inf).all())
    result = metropolis_hastings(target, toy_prior(), 60, 200, rng=seeded(0), start=start)
    assert bool((result.log_target > -torch.inf).all())


def test_unreachable():
    target = Target(toy_prior(), Condition(lambda t: [0] * len(t), name="never"))
    with pytest.raises(TargetUnreachableError, match=r"none of 60 .*'never' rules out 10 of 10"):
        metropolis_hastings(target, toy_prior(), 5, 10, rng=seeded(0))


def test_acceptance_by_hand():
    inf = torch.inf
    new = torch.tensor([0.0, -1.0, -inf, 0.0, -inf])
    old = torch.tensor([-1.0, 0.0, 0.0, -inf, -inf])
    assert log_acceptance(new, old, torch.zeros(5)).tolist() == [0.0, -1.0, -inf, 0.0, 0.0]
    with pytest.raises(NumericsError, match=r"chain 0.*NaN"):
        log_acceptance(torch.tensor([-inf]), torch.tensor([0.0]), torch.tensor([inf]))


def test_split_rhat():
    mixed = torch.randn(2000, 4, generator=seeded(0), dtype=torch.float64)
    assert split_rhat(mixed) == pytest.approx(1.0, abs=0.005)
    apart = mixed + torch.tensor([0.0, 0.0, 0.0, 3.0])
    assert split_rhat(apart) > 1.5
    drifting = mixed[:, :1] + torch.linspace(0, 5, 2000)[:, None]
    assert split_rhat(drifting) > 1.5
    assert split_rhat(torch.zeros(8, 2)) == 1.0
    assert split_rhat(torch.tensor([0.0, 1.0]).repeat(8, 1)) == math.inf
    assert split_rhat(torch.full((8, 2), -torch.inf)) == math.inf


def test_split_rhat_by_hand():
    # Halves have means .5, 2.5, variances .5, .5: B = 2 * 2 = 4, W = .5.
    values = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    assert split_rhat(values) == pytest.approx(math.sqrt(0.5 + 4 / (2 * 0.5)))


def test_bad_settings():
    with pytest.raises(ConfigError, match="steps"):
        metropolis_hastings(toy_target(), toy_prior(), 0, 2, rng=seeded(0))
    with pytest.raises(ConfigError, match="n_chains"):
        metropolis_hastings(toy_target(), toy_prior(), 2, 0, rng=seeded(0))
    with pytest.raises(ShapeError, match="3 initial states, got 2"):
        metropolis_hastings(
            toy_target(), toy_prior(), 2, 3, rng=seeded(0), start=torch.tensor([0, 1])
        )
    with pytest.raises(ConfigError, match="T >= 4"):
        split_rhat(torch.zeros(3, 2))
