"""Sequential Monte Carlo as a sampler: several independent runs, an estimate of Z from all."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from esscher.align.samplers.prefix import chance_of, check_promise, speaks_of_prefixes
from esscher.align.samplers.sampler import Drawn, Facts, Task, open_model
from esscher.align.twists import learn_twist, open_prior
from esscher.core.estimate import Estimate, from_samples
from esscher.core.importance import effective_sample_size, log_z
from esscher.core.sample import unreachable
from esscher.errors import ConfigError
from esscher.kit.lm.generate import Decodable
from esscher.kit.lm.sequences import Sequences
from esscher.kit.lm.smc import Particles, Weigh, smc
from esscher.kit.lm.token_model import TokenModel

__all__ = ["draw_awrs", "draw_smc", "draw_twisted_smc"]

RUNS = 8
"""Fewest independent runs, so that log Z has an error bar."""


def draw_smc(task: Task) -> Drawn:
    """Particles of the proposal, weighed by P/q when they end.

    With the prior as the proposal this is the bootstrap filter, whose targets on the way are the
    prior's; with a policy they are the policy's, which is the twist π/p0.

    Reference: Del Moral (2004).
    """
    model = open_model(task.proposal, "smc", "proposal")
    target, context = task.target, task.context

    def weigh(sequences: Sequences) -> Tensor:
        x = model.of_sequences(sequences)
        weight = target.log_weight(x, context)
        if model is target.prior and target.prior_power == 1.0:
            return weight
        log_p0 = target.prior_power * target.prior.log_prob(x, context=context)
        return weight + log_p0 - model.log_prob(x, context=context)

    return _drawn(task, model, weigh)


def draw_awrs(task: Task) -> Drawn:
    """Particles whose every token is drawn among the allowed ones, by rejection.

    A token is allowed where a `PrefixCondition` gives the text begun with it a chance; the last
    token of a text where all evidence does. What rejection costs in mass goes into the weights.

    Reference: Lipkin et al. (2025).
    """
    prior = open_prior(task.target)

    def weigh(sequences: Sequences) -> Tensor:
        return task.target.log_weight(prior.of_sequences(sequences), task.context)

    proposal = _other_network(task, prior, "awrs")
    return _drawn(task, prior, weigh, proposal=proposal, rejecting=True)


def draw_twisted_smc(task: Task) -> Drawn:
    """Particles led by a learnt twist, through the prior or a policy as the proposal.

    Reference: Zhao et al. (2024).
    """
    target = task.target
    prior = open_prior(target)
    twist = learn_twist(target, task.config.twist) if task.twist is None else task.twist

    def weigh(sequences: Sequences) -> Tensor:
        return target.log_weight(prior.of_sequences(sequences), task.context)

    proposal = _other_network(task, prior, "twisted_smc")
    return _drawn(task, prior, weigh, guide=twist, proposal=proposal)


def _other_network(task: Task, prior: TokenModel, sampler: str) -> Decodable | None:
    """The proposal's network, None where the prior itself proposes.

    Raises:
        ConfigError: if it cannot propose tokens of the prior.
    """
    if task.proposal is prior:
        return None
    proposal = open_model(task.proposal, sampler, "proposal")
    if (proposal.end, proposal.max_new) != (prior.end, prior.max_new):
        raise ConfigError(
            f"{sampler} needs a proposal with the prior's tokens and length, got end id "
            f"{proposal.end} and max_new {proposal.max_new} beside {prior.end} and "
            f"{prior.max_new}"
        )
    return proposal.network


def _drawn(
    task: Task,
    model: TokenModel,
    weigh: Weigh,
    *,
    guide: Any = None,
    proposal: Decodable | None = None,
    rejecting: bool = False,
) -> Drawn:
    early = speaks_of_prefixes(task.target)
    if early:
        check_promise(task, model)
    k = task.config.particles
    n_runs = max(RUNS, math.ceil(task.n / k))
    prompt = torch.tensor(model.prompts(task.context, 1)[0])
    runs = [
        smc(
            model.network,
            prompt,
            k,
            weigh,
            guide=guide,
            proposal=proposal,
            allowed=chance_of(task, model) if early or rejecting else None,
            rejecting=rejecting,
            resample_below=task.config.resample_below,
            max_new=model.max_new,
            end=model.end,
            rng=task.streams.torch("smc", i),
        )
        for i in range(n_runs)
    ]
    found = torch.tensor([run.log_z for run in runs], dtype=torch.float64)
    if bool((found == -torch.inf).all()):
        x = model.of_sequences(runs[-1].x)
        raise unreachable(task.target, x, task.context, drawn=n_runs * k, draws="particles")
    picked = _pick(runs, found, task.n, task.streams.torch("smc-pick"))
    share = _effective_share(runs, k)
    facts: Facts = {"log_z": log_z(found), "ess": share, "n_proposed": n_runs * k}
    return Drawn(model.of_sequences(picked), facts)


def _pick(runs: list[Particles], log_z: Tensor, n: int, rng: torch.Generator) -> Sequences:
    """N particles of all runs, each run by its estimate of Z and each particle by its weight."""
    weight = torch.cat([run.log_weight + z for run, z in zip(runs, log_z, strict=True)])
    rows = torch.multinomial(weight.softmax(0), n, replacement=True, generator=rng)
    return Sequences.join([run.x for run in runs]).take(rows)


def _effective_share(runs: list[Particles], k: int) -> Estimate:
    """Effective share of the particles of a run, at its end."""
    alive = [run.log_weight for run in runs if run.log_z > -math.inf]
    values = [effective_sample_size(w) / k for w in alive] + [0.0] * (len(runs) - len(alive))
    return from_samples(torch.tensor(values, dtype=torch.float64))
