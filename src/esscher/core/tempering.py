"""Parallel tempering: chains at several powers of the evidence that exchange their states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esscher.core.estimate import Estimate
from esscher.core.law import Context, Samples, join, take
from esscher.core.mcmc import Kernel, log_acceptance, split_rhat
from esscher.core.sample import check_counts, unreachable
from esscher.core.target import Target
from esscher.errors import ConfigError

__all__ = ["TemperedResult", "geometric_powers", "parallel_tempering"]


@dataclass(frozen=True)
class TemperedResult:
    """Where the chains at the full evidence ended.

    Attributes:
        x: final state of each of C chains at power 1.
        log_target: [C] unnormalised log-density of the target, nats.
        trace: [steps, C] of the same after each step.
        acceptance: of the moves at power 1.
        swaps: [R - 1] share of exchanges accepted between neighbouring powers.
        rhat: split-R-hat of the second half of the trace.
    """

    x: Samples
    log_target: Tensor
    trace: Tensor
    acceptance: Estimate
    swaps: Tensor
    rhat: float


def geometric_powers(rungs: int, lowest: float = 0.05) -> list[float]:
    """Evidence powers 1 = a_1 > … > a_R = 0: geometric down to `lowest`, then the prior itself."""
    if rungs < 2 or not 0 < lowest < 1:
        raise ConfigError(f"tempering needs 2 rungs and lowest in (0, 1), got {rungs}, {lowest}")
    if rungs == 2:
        return [1.0, 0.0]
    return [lowest ** (i / (rungs - 2)) for i in range(rungs - 1)] + [0.0]


def parallel_tempering(
    target: Target,
    kernel: Kernel,
    steps: int,
    n_chains: int,
    *,
    powers: Sequence[float],
    rng: torch.Generator,
    context: Context = None,
) -> TemperedResult:
    """C groups of R chains at prior · evidence^a; after each move neighbours may exchange states.

    Chains at low powers roam where the evidence rules little out, and hand what they find upwards.

    Args:
        target: the law to reach, at power 1.
        kernel: proposes moves at every power.
        steps: moves per chain, at least 1.
        n_chains: C, at least 1.
        powers: a_1 = 1 > a_2 > … ≥ 0, at least two; of the evidence as the target has it.
        rng: source of randomness.
        context: one context for all chains.

    Raises:
        ConfigError: if a count or the powers are out of range.
        TargetUnreachableError: if every chain at power 1 is at a state of density zero.

    Reference:
        Geyer (1991); Earl and Deem (2005).
    """
    check_counts(context, steps=steps, n_chains=n_chains)
    a = _checked(powers)
    rungs = len(a)
    power = a.repeat_interleave(n_chains)
    x = target.prior.sample(rungs * n_chains, context=context, rng=rng).x
    log_p0, weight = _terms(target, x, context)
    moved = torch.zeros(rungs * n_chains, dtype=torch.float64)
    exchanged = torch.zeros(rungs - 1, dtype=torch.float64)
    trace = torch.empty(steps, n_chains, dtype=torch.float64)
    for t in range(steps):
        move = kernel.propose(x, context=context, rng=rng)
        new_p0, new_weight = _terms(target, move.x, context)
        old, new = _density(log_p0, weight, power), _density(new_p0, new_weight, power)
        chance = log_acceptance(new, old, move.log_q_ratio.cpu().to(new))
        accept = torch.rand(len(x), generator=rng, dtype=torch.float64).log() < chance
        rows = torch.arange(len(accept)) + len(accept) * accept
        order, done = _swap(torch.where(accept, new_weight, weight), a, n_chains, t % 2, rng)
        x = take(join([x, move.x]), rows[order])
        log_p0 = torch.cat([log_p0, new_p0])[rows[order]]
        weight = torch.cat([weight, new_weight])[rows[order]]
        moved += accept
        exchanged += done
        trace[t] = _density(log_p0, weight, power)[:n_chains]
    if bool((trace[-1] == -torch.inf).all()):
        raise unreachable(target, x, context, drawn=n_chains * rungs * (steps + 1))
    return TemperedResult(
        x=take(x, torch.arange(n_chains)),
        log_target=trace[-1].clone(),
        trace=trace,
        acceptance=_rate(moved[:n_chains] / steps, steps),
        swaps=exchanged / (n_chains * _tries(rungs, steps)),
        rhat=split_rhat(trace[steps // 2 :]) if steps - steps // 2 >= 4 else math.inf,
    )


def _checked(powers: Sequence[float]) -> Tensor:
    a = torch.tensor(list(powers), dtype=torch.float64)
    falling = bool((a[1:] < a[:-1]).all())
    if len(a) < 2 or not falling or float(a[0]) != 1.0 or float(a[-1]) < 0.0:
        raise ConfigError(f"powers must fall from 1 towards 0, at least two, got {list(powers)}")
    return a


def _terms(target: Target, x: Samples, context: Context) -> tuple[Tensor, Tensor]:
    """The prior's and the evidence's part of log P, [B] float64 each."""
    log_p0 = target.prior_power * target.prior.log_prob(x, context=context).double().cpu()
    return log_p0, target.log_weight(x, context).double().cpu()


def _density(log_p0: Tensor, weight: Tensor, power: Tensor) -> Tensor:
    # 0 · -inf is NaN: at power 0 the evidence is silent.
    return log_p0 + torch.where(power > 0, power * weight, 0.0)


def _swap(
    weight: Tensor, a: Tensor, n_chains: int, first: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Which state [R·C] every chain continues, and how many exchanges [R-1] there were.

    Pairs (r, r+1) with r of the parity `first` exchange with probability
    min(1, exp((a_r - a_r+1)(G_r+1 - G_r))), which keeps the joint law.
    """
    rungs = len(a)
    state = torch.arange(rungs * n_chains).view(rungs, n_chains)
    g = weight.view(rungs, n_chains)
    done = torch.zeros(rungs - 1, dtype=torch.float64)
    u = torch.rand(rungs - 1, n_chains, dtype=torch.float64, generator=rng).log()
    for r in range(first, rungs - 1, 2):
        low, high = g[r + 1], g[r]
        both = (low == -torch.inf) & (high == -torch.inf)
        ratio = torch.where(both, -torch.inf, (a[r] - a[r + 1]) * (low - high))
        swap = u[r] < ratio
        pair = torch.where(swap, state[[r + 1, r]], state[[r, r + 1]])
        state[[r, r + 1]] = pair
        done[r] = float(swap.sum())
    return state.flatten(), done


def _tries(rungs: int, steps: int) -> Tensor:
    """How often each pair of neighbours was asked, [R-1]."""
    even = (steps + 1) // 2
    tries = [max(1, even if r % 2 == 0 else steps - even) for r in range(rungs - 1)]
    return torch.tensor(tries, dtype=torch.float64)


def _rate(rates: Tensor, steps: int) -> Estimate:
    n = len(rates)
    se = float(rates.std()) / math.sqrt(n) if n > 1 else math.inf
    return Estimate(float(rates.mean()), se, n * steps)
