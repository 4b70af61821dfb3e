"""Markov chains that leave the target invariant: one chain per draw, its last state handed out."""

from __future__ import annotations

import math

from esscher.align.samplers.sampler import Drawn, Facts, Task, open_model
from esscher.core.law import Law
from esscher.core.mcmc import IndependenceKernel, Kernel, MixtureKernel, metropolis_hastings
from esscher.core.tempering import geometric_powers, parallel_tempering
from esscher.kit.lm.kernels import BlockKernel, SuffixKernel
from esscher.kit.lm.token_model import TokenModel

__all__ = ["draw_block_mh", "draw_independence_mh", "draw_parallel_tempering", "draw_suffix_mh"]


def draw_independence_mh(task: Task) -> Drawn:
    """Metropolis-Hastings that proposes whole draws of the proposal.

    Reference: Hastings (1970).
    """
    return _chains(task, task.proposal)


def draw_suffix_mh(task: Task) -> Drawn:
    """Metropolis-Hastings that rewrites the end of a text, with the correction for its length."""
    return _chains(task, SuffixKernel(open_model(task.proposal, "suffix_mh", "proposal")))


def draw_block_mh(task: Task) -> Drawn:
    """Metropolis-Hastings that rewrites a block inside or, as often, the whole end.

    Blocks alone would keep every length as it is.
    """
    model = open_model(task.proposal, "block_mh", "proposal")
    return _chains(task, MixtureKernel(BlockKernel(model, task.config.block), SuffixKernel(model)))


def _chains(task: Task, proposal: Law | Kernel) -> Drawn:
    start = task.proposal.sample(
        task.n, context=task.context, rng=task.streams.torch("chain-start")
    ).x
    found = metropolis_hastings(
        task.target,
        proposal,
        task.config.steps,
        task.n,
        rng=task.streams.torch("sample"),
        start=start,
        context=task.context,
    )
    rhat = found.rhat if math.isfinite(found.rhat) else None
    n_proposed = task.n * (task.config.steps + 1)
    facts: Facts = {"acceptance": found.acceptance, "rhat": rhat, "n_proposed": n_proposed}
    return Drawn(found.x, facts)


def draw_parallel_tempering(task: Task) -> Drawn:
    """Chains at several powers of the evidence that exchange states.

    Reference: Geyer (1991).
    """
    proposal = task.proposal
    kernel = (
        SuffixKernel(proposal) if isinstance(proposal, TokenModel) else IndependenceKernel(proposal)
    )
    powers = geometric_powers(task.config.rungs)
    found = parallel_tempering(
        task.target,
        kernel,
        task.config.steps,
        task.n,
        powers=powers,
        rng=task.streams.torch("sample"),
        context=task.context,
    )
    facts: Facts = {
        "acceptance": found.acceptance,
        "swaps": float(found.swaps.mean()),
        "rhat": found.rhat if math.isfinite(found.rhat) else None,
        "n_proposed": task.n * len(powers) * (task.config.steps + 1),
    }
    return Drawn(found.x, facts)
