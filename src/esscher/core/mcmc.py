"""Metropolis-Hastings on any law, with acceptance and split-R-hat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from esscher.core.estimate import Estimate
from esscher.core.law import Context, Law, Samples, join, take
from esscher.core.sample import check_counts, unreachable
from esscher.core.target import Target
from esscher.errors import ConfigError, NumericsError, ShapeError

__all__ = [
    "ChainResult",
    "IndependenceKernel",
    "Kernel",
    "MixtureKernel",
    "Move",
    "log_acceptance",
    "metropolis_hastings",
    "split_rhat",
]


class Move(NamedTuple):
    """Proposed states and log q(x | x') - log q(x' | x) [B], nats; 0 for symmetric kernels."""

    x: Samples
    log_q_ratio: Tensor


@runtime_checkable
class Kernel(Protocol):
    """A way to propose from where a chain is."""

    def propose(self, x: Samples, *, context: Context, rng: torch.Generator) -> Move:
        """Propose one new state for each of the B states x."""
        ...


class IndependenceKernel:
    """Proposes from a law, wherever the chain is."""

    def __init__(self, law: Law) -> None:
        self.law = law

    def propose(self, x: Samples, *, context: Context, rng: torch.Generator) -> Move:
        """Fresh draws, with log q(x) - log q(x')."""
        now = self.law.log_prob(x, context=context)
        new, log_q = self.law.sample(len(now), context=context, rng=rng)
        return Move(new, now.to(torch.float64) - log_q.to(torch.float64))


class MixtureKernel:
    """One of several kernels, chosen anew for every move of all chains; each leaves the law alone.

    Args:
        kernels: at least one.
    """

    def __init__(self, *kernels: Kernel) -> None:
        self.kernels = kernels

    def propose(self, x: Samples, *, context: Context, rng: torch.Generator) -> Move:
        """A move of the kernel chosen."""
        which = int(torch.randint(len(self.kernels), (1,), generator=rng))
        return self.kernels[which].propose(x, context=context, rng=rng)


@dataclass(frozen=True)
class ChainResult:
    """Where the chains ended and how they got there.

    Attributes:
        x: final state of each of C chains.
        log_target: [C] unnormalised log-density of the final states, nats.
        trace: [steps, C] unnormalised log-density after each step, nats.
        acceptance: over all steps, with the spread between chains as its error.
        rhat: split-R-hat of the second half of the trace; above 1.01 the chains have not mixed.
    """

    x: Samples
    log_target: Tensor
    trace: Tensor
    acceptance: Estimate
    rhat: float


def log_acceptance(log_new: Tensor, log_old: Tensor, log_q_ratio: Tensor) -> Tensor:
    """Log probability of accepting a move, min(0, log P' - log P + log q-ratio), [B] nats.

    A chain at a state of density zero always moves.

    Raises:
        NumericsError: if a ratio is NaN.

    Reference:
        Hastings (1970).
    """
    stuck = log_old == -torch.inf
    ratio = torch.where(stuck, 0.0, log_new - log_old.masked_fill(stuck, 0.0) + log_q_ratio)
    if bool(ratio.isnan().any()):
        i = int(ratio.isnan().nonzero()[0])
        raise NumericsError(
            f"chain {i}: the acceptance ratio is NaN (log P' = {float(log_new[i])}, log P = "
            f"{float(log_old[i])}, log q-ratio = {float(log_q_ratio[i])}); "
            "the kernel must give every state it proposes a positive probability"
        )
    return ratio.clamp(max=0.0)


def metropolis_hastings(
    target: Target,
    proposal: Law | Kernel,
    steps: int,
    n_chains: int,
    *,
    rng: torch.Generator,
    start: Samples | None = None,
    context: Context = None,
) -> ChainResult:
    """Run C chains side by side; the target is invariant, and reached as steps grow.

    Args:
        target: the law to reach.
        proposal: a law to propose from (independence sampler), or a `Kernel`.
        steps: moves per chain, at least 1.
        n_chains: C, at least 1.
        rng: source of randomness.
        start: C initial states; draws from the proposal, or the prior for a kernel, by default.
        context: one context for all chains.

    Raises:
        TargetUnreachableError: if every chain is still at a state of density zero.
        ConfigError: if a count is not positive, or a list of contexts is given.

    Reference:
        Metropolis et al. (1953); Hastings (1970).
    """
    check_counts(context, steps=steps, n_chains=n_chains)
    kernel = proposal if isinstance(proposal, Kernel) else IndependenceKernel(proposal)
    law = target.prior if isinstance(proposal, Kernel) else proposal
    x = start if start is not None else law.sample(n_chains, context=context, rng=rng).x
    log_p = target.log_density(x, context)
    if len(log_p) != n_chains:
        raise ShapeError(f"expected {n_chains} initial states, got {len(log_p)}")
    moved = torch.zeros(n_chains, dtype=torch.float64)
    trace = torch.empty(steps, n_chains, dtype=torch.float64)
    here = torch.arange(n_chains)
    for t in range(steps):
        move = kernel.propose(x, context=context, rng=rng)
        log_new = target.log_density(move.x, context)
        log_a = log_acceptance(log_new, log_p, move.log_q_ratio.to(log_new))
        accept = torch.rand(n_chains, generator=rng, dtype=torch.float64).log() < log_a.cpu()
        x = take(join([x, move.x]), here + n_chains * accept)
        log_p = torch.where(accept.to(log_p.device), log_new, log_p)
        moved += accept
        trace[t] = log_p.cpu()
    if bool((log_p == -torch.inf).all()):
        raise unreachable(target, x, context, drawn=n_chains * (steps + 1))
    rates = moved / steps
    se = float(rates.std()) / math.sqrt(n_chains) if n_chains > 1 else math.inf
    acceptance = Estimate(float(rates.mean()), se, steps * n_chains)
    half = trace[steps // 2 :]
    rhat = split_rhat(half) if len(half) >= 4 else math.inf
    return ChainResult(x, log_p, trace, acceptance, rhat)


def split_rhat(values: Tensor) -> float:
    """Split-R-hat of a quantity along C chains: 1 when mixed, inf when chains cannot agree.

    Args:
        values: [T, C] with T >= 4; values of -inf (chains at density zero) give inf.

    Raises:
        ConfigError: if T < 4 or there is no chain.

    Reference:
        Gelman et al. (2013), Bayesian Data Analysis, section 11.4.
    """
    if values.ndim != 2 or len(values) < 4 or values.shape[1] < 1:
        raise ConfigError(f"split_rhat needs [T >= 4, C >= 1], got {tuple(values.shape)}")
    if not bool(values.isfinite().all()):
        return math.inf
    half = len(values) // 2
    parts = torch.cat([values[:half], values[-half:]], 1)
    within = float(parts.var(0).mean())
    between = half * float(parts.mean(0).var())
    if within == 0.0:
        return 1.0 if between == 0.0 else math.inf
    return math.sqrt((half - 1) / half + between / (half * within))
