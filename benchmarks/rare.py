"""Rare evidence on the embedded task: functions that branch and use `self`, one draw in thirty.

Acceptance is that of quasi-rejection at a total variation below 0.1. The prior accepts what
satisfies the evidence. One fit with tokens credited gives both proposals beside it: its policy, and
the prior led by its twist. Z by sequential Monte Carlo, plain and led by that twist, is estimated
again and again at the same number of particles. Where every particle of a plain run died, its
estimate is 0, and has no logarithm: the standard deviation relative to the mean counts such runs,
that of log Z leaves them out, in favour of the plain filter.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import time
from typing import Any

import torch
from _harness import Numbers, Spread, interval, main, note, single

from esscher.align import SamplerConfig, sample
from esscher.align.config import FitConfig
from esscher.align.fit import fit
from esscher.core import Condition, Target
from esscher.core.estimate import Estimate, from_samples
from esscher.kit.lm.builtin import builtin_stdlib
from esscher.kit.lm.guided import GuidedLaw
from esscher.kit.lm.predicates import has_branch, uses_self
from esscher.kit.lm.sequences import Sequences
from esscher.kit.lm.smc import smc
from esscher.kit.lm.token_model import TokenModel
from esscher.kit.runs.seeds import Streams

STEPS = {True: 20, False: 300}
BATCH = {True: 256, False: 512}
DRAWS = {True: 200, False: 2000}
RUNS = {True: 20, False: 200}
PARTICLES = 64
LR = 3e-4
TVD, PILOT = 0.08, 20_000


def measure(quick: bool) -> Numbers:
    """Acceptance of the prior and of both proposals, and the spread of Z."""
    prior = builtin_stdlib().model
    target = Target(prior, Condition(has_branch), Condition(uses_self))
    numbers: Numbers = {}
    settings = FitConfig(credit="token", steps=STEPS[quick], batch=BATCH[quick], lr=LR)
    cpu = time.process_time()
    found = fit(prior, target, config=settings, on_step=follow)
    numbers["fit: CPU s"] = single(time.process_time() - cpu)
    accepted = rejection(target, numbers)
    config = SamplerConfig(tvd=TVD, pilot=PILOT)
    for name, law in (("policy", found.policy), ("led prior", GuidedLaw(prior, found.twist))):
        drawn = sample(target, proposal=law, n=DRAWS[quick], config=config)
        share, left = drawn.facts["acceptance"], drawn.facts["tvd"]
        assert isinstance(share, Estimate)
        assert isinstance(left, Estimate)
        numbers[f"{name}: acceptance"] = interval(share)
        numbers[f"{name}: TVD"] = interval(left)
        numbers[f"{name}: acceptance / prior's"] = single(share.mean / accepted.mean)
    plain, led = (log_zs(target, prior, RUNS[quick], guide) for guide in (None, found.twist))
    numbers["smc: runs that died"] = single(float((plain == -torch.inf).double().mean()))
    for name, spread in (("std of Z / mean", relative), ("std of log Z", deviation)):
        numbers[f"smc: {name}"] = single(spread(plain))
        numbers[f"twisted smc: {name}"] = single(spread(led))
        numbers[f"twisted / plain: {name}"] = single(spread(led) / spread(plain))
    numbers["smc: Z"] = mean_z(plain)
    numbers["twisted smc: Z"] = mean_z(led)
    return numbers


def rejection(target: Target, numbers: Numbers) -> Estimate:
    """Share of the prior's draws that satisfies the evidence: what exact rejection accepts."""
    found = sample(target, "rejection", n=500).facts["acceptance"]
    assert isinstance(found, Estimate)
    numbers["prior: acceptance"] = interval(found)
    return found


def log_zs(target: Target, prior: TokenModel, runs: int, twist: Any) -> torch.Tensor:
    """[runs] estimates of log Z, nats."""
    prompt = torch.tensor(prior.prompts(None, 1)[0])

    def weigh(sequences: Sequences) -> torch.Tensor:
        return target.log_weight(prior.of_sequences(sequences))

    found = []
    for i in range(runs):
        rng = Streams(7).torch("rare", i)
        shape = {"max_new": prior.max_new, "end": prior.end, "rng": rng}
        found.append(smc(prior.network, prompt, PARTICLES, weigh, guide=twist, **shape).log_z)
    return torch.tensor(found, dtype=torch.float64)


def relative(log_z: torch.Tensor) -> float:
    z = log_z.exp()
    return float(z.std() / z.mean())


def deviation(log_z: torch.Tensor) -> float:
    return float(log_z[log_z > -torch.inf].std())


def mean_z(log_z: torch.Tensor) -> Spread:
    return interval(from_samples(log_z.exp()))


def follow(done: int, total: int, *_: object) -> None:
    if done % 25 == 0:
        note(f"  {done}/{total}")


def run(quick: bool = False, output: object = None) -> dict[str, float]:
    return {key: spread.median for key, spread in measure(quick).items()}


if __name__ == "__main__":
    sys.exit(main("rare", __doc__, measure))
