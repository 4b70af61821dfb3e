"""The enumerable world: 364 outcomes of the default `TabularLM`, a reward, and the target."""

import itertools
import math
from functools import cache

import torch
from torch import Tensor

from esscher.align import objectives
from esscher.core import Condition, Reward, Target
from esscher.kit.lm.tabular import TabularLM

BETA = 0.5
END = 3


def toy_reward(items):
    """Occurrences of 0 followed by 1, half a point for a 2, and a small price per token."""
    return [
        sum(a == 0 and b == 1 for a, b in itertools.pairwise(s))
        + 0.5 * (2 in s)
        - 0.25 * len(s) / 5
        for s in items
    ]


def has_two(items):
    return [2 in s for s in items]


@cache
def prior(max_len: int = 5) -> TabularLM:
    return TabularLM(max_len=max_len)


@cache
def toy(max_len: int = 5) -> Target:
    return Target(prior(max_len), Reward(toy_reward, beta=BETA))


@cache
def hard(max_len: int = 5) -> Target:
    return Target(prior(max_len), Condition(has_two))


@cache
def outcomes() -> Tensor:
    return prior().enumerate()


@cache
def rewards() -> Tensor:
    return torch.tensor(toy_reward(prior().items(outcomes())), dtype=torch.float64)


@cache
def log_prior() -> Tensor:
    return prior().log_prob(outcomes())


@cache
def posterior(target: Target | None = None) -> Tensor:
    """[364] exact log-probabilities of the target."""
    return (target or toy()).table().log_probs


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perturbed(seed: int, scale: float = 1.0, max_len: int = 5) -> TabularLM:
    """A policy some way from the prior."""
    policy = prior(max_len).clone()
    with torch.no_grad():
        logits = policy.module().logits
        logits += scale * torch.randn(logits.shape, generator=seeded(seed), dtype=torch.float64)
    return policy


def of_log_probs(log_probs: Tensor) -> TabularLM:
    """The tabular model whose outcome law is exactly this one (full support)."""
    mass: dict[tuple[int, ...], float] = {}
    ends: dict[tuple[int, ...], float] = {}
    for item, p in zip(prior().items(outcomes()), log_probs.exp().tolist(), strict=True):
        letters = tuple(i for i in item if i != END)
        ends[letters] = p
        for t in range(len(letters) + 1):
            mass[letters[:t]] = mass.get(letters[:t], 0.0) + p
    rows = [
        [*(math.log(mass[(*s, a)] / mass[s]) for a in range(END)), math.log(ends[s] / mass[s])]
        for s in ends
        if len(s) < 5
    ]
    model = TabularLM()
    with torch.no_grad():
        model.module().logits.copy_(torch.tensor(rows, dtype=torch.float64))
    return model


def tvd(log_a: Tensor, log_b: Tensor) -> float:
    return 0.5 * float((log_a.exp() - log_b.exp()).abs().sum())


def gradient(loss: Tensor, policy: TabularLM) -> Tensor:
    (g,) = torch.autograd.grad(loss, policy.module().logits, retain_graph=True)
    return g


@cache
def densities(target: Target) -> tuple[Tensor, Tensor, Tensor]:
    """log P [N], evidence [N] and log Z [] over all outcomes."""
    x = target.prior.enumerate()
    log_z = torch.tensor(target.table().log_z, dtype=torch.float64)
    return target.log_density(x), target.log_weight(x), log_z


def batch(policy, target, index, *, log_q=None, groups=None, copies=None):
    """The `Batch` of the outcomes at `index`, scored exactly, with the exact log Z.

    Args:
        policy: where log_pi, with graph, comes from.
        target: prior and evidence.
        index: [B] outcomes.
        log_q: law that drew them; the policy itself if None.
        groups: [B]; one group by default.
        copies: [B]; ones by default.
    """
    log_pi = policy.log_probs()
    q = log_pi.detach() if log_q is None else log_q
    log_target, log_weight, log_z = densities(target)
    return objectives.Batch(
        log_pi=log_pi[index],
        log_q=q[index],
        log_target=log_target[index],
        log_weight=log_weight[index],
        log_z=log_z,
        groups=torch.zeros(len(index), dtype=torch.int64) if groups is None else groups,
        copies=torch.ones(len(index), dtype=torch.int64) if copies is None else copies,
    )


class Sampled:
    """A tabular model without `enumerate`, so that everything about it has to be estimated."""

    def __init__(self, model: TabularLM) -> None:
        self.model = model

    @property
    def recipe(self):
        return self.model.recipe

    def sample(self, n, *, context=None, rng):
        return self.model.sample(n, context=context, rng=rng)

    def log_prob(self, x, *, context=None):
        return self.model.log_prob(x, context=context)

    def log_prob_chunks(self, x, *, context=None):
        return self.model.log_prob_chunks(x, context=context)

    def graph_bytes(self, x, *, context=None):
        return self.model.graph_bytes(x, context=context)

    def items(self, x):
        return self.model.items(x)

    def clone(self):
        return Sampled(self.model.clone())

    def module(self):
        return self.model.module()

    def save(self, path):
        self.model.save(path)
