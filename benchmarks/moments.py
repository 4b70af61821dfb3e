"""Two moments at once on the embedded task: half the functions use `self`, four fifths return.

The nearest law to the prior with these moments is its I-projection, p* ∝ p0 exp(λ·φ). VarGrad
trains towards it; the numbers are of draws of the trained model, of which training saw none, and of
draws by quasi-rejection with that model as the proposal, whose law p_B ∝ min(P, B π) is known up to
its normaliser B · acceptance.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import dataclasses
import math
import time
from typing import cast

import torch
from _harness import Numbers, interval, main, note, single

from esscher.align import SamplerConfig, sample
from esscher.align.evaluate import evaluate
from esscher.align.fit import fit
from esscher.align.reference import make_reference
from esscher.align.samplers.sampler import Drawn
from esscher.core import Moments, Target
from esscher.core.estimate import Estimate, from_samples
from esscher.kit.lm.builtin import builtin_stdlib
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.predicates import has_return, uses_self
from esscher.kit.runs.seeds import Streams

WANTED = {uses_self: 0.5, has_return: 0.8}
STEPS = {True: 50, False: 200}
DRAWS = {True: 1000, False: 4000}
LR = 1.5e-4


def measure(quick: bool) -> Numbers:
    """The moments, and what they cost, beside the I-projection's."""
    prior = builtin_stdlib().model
    streams = Streams(3)
    open_target = Target(prior, Moments(WANTED))
    target = open_target.fit_moments(20_000, rng=streams.torch("moments"))
    n = DRAWS[quick]
    reference = make_reference(target, n, rng=streams.torch("reference"))
    cpu = time.process_time()

    def follow(done: int, total: int, *_: object) -> None:
        if done % 25 == 0:
            note(f"  {done}/{total} {time.process_time() - cpu:.0f} CPU s")

    policy = fit(prior, target, "vargrad", steps=STEPS[quick], lr=LR, on_step=follow).policy
    spent = time.process_time() - cpu
    found = evaluate(policy, target, n, reference=reference)
    texts = policy.items(policy.sample(n, rng=streams.torch("texts")).x)
    drawn = sample(target, proposal=policy, n=n, config=SamplerConfig(tvd=0.01))
    corrected = policy.items(drawn.x)
    before = prior.items(prior.sample(n, rng=streams.torch("before")).x)
    numbers: Numbers = {}
    for feature, wanted in WANTED.items():
        name = feature.__name__
        numbers[f"{name}: prior"] = interval(mean_of(feature(before)))
        reached = mean_of(feature(texts))
        numbers[f"{name}: reached"] = interval(reached)
        numbers[f"{name}: off by"] = single(abs(reached.mean - wanted))
        by_rejection = mean_of(feature(corrected)).mean
        numbers[f"{name}: off by, quasi-rejection"] = single(abs(by_rejection - wanted))
    best = found.kl_target_prior
    numbers["I-projection: KL(p*‖p0)"] = interval(best)
    numbers["policy: KL(pi‖p0)"] = interval(found.kl_model_prior)
    numbers["policy: KL(pi‖p0) / I-projection's"] = single(found.kl_model_prior.mean / best.mean)
    numbers["policy: KL(p*‖pi)"] = interval(found.kl_target_model)
    corrected_kl = kl_of_accepted(target, policy, drawn)
    numbers["quasi-rejection: KL(p_B‖p0)"] = interval(corrected_kl)
    numbers["quasi-rejection: KL / I-projection's"] = single(corrected_kl.mean / best.mean)
    numbers["quasi-rejection: acceptance"] = interval(cast("Estimate", drawn.facts["acceptance"]))
    numbers["policy: CPU s"] = single(spent)
    return numbers


def kl_of_accepted(target: Target, policy: LanguageModel, drawn: Drawn) -> Estimate:
    """KL(p_B‖p0) from draws of p_B, nats; the error of the acceptance adds to that of the mean."""
    acceptance = cast("Estimate", drawn.facts["acceptance"])
    log_bound = cast("float", drawn.facts["log_bound"])
    log_p0 = target.prior.log_prob(drawn.x).double()
    log_weight = target.log_weight(drawn.x)
    log_q = policy.log_prob(drawn.x).double()
    kept = torch.minimum(log_p0 + log_weight, log_bound + log_q)
    mean = from_samples(kept - log_p0 - log_bound - math.log(acceptance.mean), unit="nats")
    error = math.hypot(mean.se, acceptance.se / acceptance.mean)
    return dataclasses.replace(mean, se=error)


def mean_of(values: list[bool]) -> Estimate:
    return from_samples(torch.tensor(values, dtype=torch.float64))


def run(quick: bool = False, output: object = None) -> dict[str, float]:
    return {key: spread.median for key, spread in measure(quick).items()}


if __name__ == "__main__":
    sys.exit(main("moments", __doc__, measure))
