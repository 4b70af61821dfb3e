"""Rare evidence on the embedded task: functions that branch and use `self`, one draw in thirty.

Acceptance is that of quasi-rejection at a total variation below 0.1. The prior accepts what
satisfies the evidence. Two fitted proposals stand beside it: a policy, fitted with tokens credited,
and the prior led by a learnt twist. log Z by sequential Monte Carlo, plain and twisted, is
estimated again and again at the same number of particles; where every particle of a plain run
died, its estimate is log 0, and the spread shown leaves such runs out, in its favour.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import time
from collections.abc import Callable
from typing import Any

import torch
from _harness import Numbers, Spread, interval, main, note, single

from esscher.align import SamplerConfig, sample
from esscher.align.config import FitConfig
from esscher.align.fit import fit
from esscher.align.twists import TwistConfig, learn_twist
from esscher.core import Condition, Target
from esscher.core.estimate import Estimate
from esscher.kit.lm.builtin import builtin_stdlib
from esscher.kit.lm.guided import GuidedLaw
from esscher.kit.lm.predicates import has_branch, uses_self
from esscher.kit.lm.sequences import Sequences
from esscher.kit.lm.smc import smc
from esscher.kit.lm.token_model import TokenModel
from esscher.kit.runs.seeds import Streams

FIT = {True: 20, False: 200}
TWIST = {True: 20, False: 400}
RUNS = {True: 10, False: 60}
PARTICLES = 256
LR = 3e-4


def measure(quick: bool) -> Numbers:
    """Acceptance of the prior and of both proposals, and the spread of log Z."""
    prior = builtin_stdlib().model
    target = Target(prior, Condition(has_branch), Condition(uses_self))
    numbers: Numbers = {}
    config = FitConfig(credit="token", steps=FIT[quick], lr=LR)
    policy, numbers["policy: CPU s"] = timed(
        lambda: fit(prior, target, config=config, on_step=follow("policy")).policy
    )
    settings = TwistConfig("ctl", steps=TWIST[quick], lr=2e-3)
    twist, numbers["twist: CPU s"] = timed(
        lambda: learn_twist(target, settings, on_step=follow("twist"))
    )
    accepted = rejection(target, numbers)
    for name, law in (("policy", policy), ("led prior", GuidedLaw(prior, twist))):
        drawn = sample(target, proposal=law, n=500, config=SamplerConfig(tvd=0.09))
        found, left = drawn.facts["acceptance"], drawn.facts["tvd"]
        assert isinstance(found, Estimate)
        assert isinstance(left, Estimate)
        numbers[f"{name}: acceptance"] = interval(found)
        numbers[f"{name}: TVD"] = interval(left)
        numbers[f"{name}: acceptance / prior's"] = single(found.mean / accepted.mean)
    plain = log_zs(target, prior, RUNS[quick], None)
    led = log_zs(target, prior, RUNS[quick], twist)
    numbers["smc: log Z"] = centre(plain)
    numbers["twisted smc: log Z"] = centre(led)
    numbers["smc: runs that died"] = single(float((plain == -torch.inf).double().mean()))
    numbers["smc: std of log Z"] = single(deviation(plain))
    numbers["twisted smc: std of log Z"] = single(deviation(led))
    numbers["twisted / plain std of log Z"] = single(deviation(led) / deviation(plain))
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


def deviation(log_z: torch.Tensor) -> float:
    return float(log_z[log_z > -torch.inf].std())


def centre(log_z: torch.Tensor) -> Spread:
    return Spread.of(log_z[log_z > -torch.inf].tolist())


def timed(work: Callable[[], Any]) -> tuple[Any, Spread]:
    cpu = time.process_time()
    made = work()
    return made, single(time.process_time() - cpu)


def follow(name: str) -> Callable[..., None]:
    def show(done: int, total: int, *_: object) -> None:
        if done % 25 == 0:
            note(f"  {name} {done}/{total}")

    return show


def run(quick: bool = False, output: object = None) -> dict[str, float]:
    return {key: spread.median for key, spread in measure(quick).items()}


if __name__ == "__main__":
    sys.exit(main("rare", __doc__, measure))
