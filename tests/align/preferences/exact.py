"""Infinitely many comparisons: every pair of outcomes, weighted by how often it is drawn."""

from functools import cache

import torch

from esscher.align.preferences import Pairs, PreferenceConfig, RewardConfig, Split
from tests.align import worlds


@cache
def rewards(max_len):
    """[N] rewards of all outcomes."""
    law = worlds.prior(max_len)
    return torch.tensor(worlds.toy_reward(law.items(law.enumerate())), dtype=torch.float64)


@cache
def log_prior(max_len):
    law = worlds.prior(max_len)
    return law.log_prob(law.enumerate())


def every_pair(max_len, log_mu=None, weight=None):
    """All pairs of different outcomes, both drawn from μ, labelled by Bradley and Terry."""
    r = rewards(max_len)
    i, j = torch.triu_indices(len(r), len(r), 1)
    if weight is None:
        mu = log_prior(max_len) if log_mu is None else log_mu
        weight = (mu[i] + mu[j]).exp()
    return Pairs(i, j, None, torch.sigmoid(r[i] - r[j]), weight)


def both(pairs):
    """Nothing is held out where nothing is random."""
    return Split(pairs, pairs)


def config(**settings):
    given = {"steps": 400, "batch": 10**6, "lr": 0.1, "patience": 10**6, "check_every": 100}
    return PreferenceConfig(**{**given, "draws": 2, **settings})


def reward_config(**settings):
    given = {"steps": 400, "batch": 10**6, "lr": 0.1, "patience": 10**6, "check_every": 100}
    return RewardConfig(**given | settings)


def normalised(log_weights):
    return log_weights - log_weights.logsumexp(0)
