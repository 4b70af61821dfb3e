"""The embedded task: functions that compile, with the default objective and without a KL term.

Distances are measured on exact posterior draws that no model was trained on. CPU seconds are of
this process on one thread and grow with other load on the machine.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import time

from _harness import Numbers, interval, main, note, single

from esscher.align.evaluate import Evaluation, evaluate
from esscher.align.fit import fit
from esscher.align.reference import Reference, make_reference
from esscher.core import Condition, Target
from esscher.kit.lm.builtin import builtin_stdlib
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.stdlib import compiles
from esscher.kit.runs.seeds import Streams

STEPS = {True: 60, False: 285}
DRAWS = {True: 1000, False: 2000}


def measure(quick: bool) -> Numbers:
    """Prior, default objective, collapse."""
    cpu = time.process_time()
    prior = builtin_stdlib()
    built = time.process_time() - cpu
    target = Target(prior.model, Condition(compiles))
    n = DRAWS[quick]
    reference = make_reference(target, n, rng=Streams(1).torch("benchmark"))
    numbers: Numbers = {
        "prior: CPU s": single(built),
        "prior: memorised": single(prior.memorised),
        "prior: compile rate": interval(reference.satisfied),
        "prior: KL(p*|p0)": interval(
            evaluate(prior.model, target, n, reference=reference).kl_target_prior
        ),
    }
    if prior.from_cache:
        del numbers["prior: CPU s"]
    tuned, seconds = timed_fit(prior.model, target, "forward_kl", STEPS[quick], None)
    numbers |= judged("forward_kl", tuned, target, n, reference)
    numbers["forward_kl: CPU s"] = single(seconds)
    collapsed, _ = timed_fit(prior.model, target, "rl", 50, 5e-4)
    return numbers | judged("rl", collapsed, target, n, reference)


def timed_fit(
    prior: LanguageModel, target: Target, objective: str, steps: int, lr: float | None
) -> tuple[LanguageModel, float]:
    cpu = time.process_time()

    def follow(done: int, total: int, *_: object) -> None:
        if done % 25 == 0:
            note(f"  {objective} {done}/{total} {time.process_time() - cpu:.0f} CPU s")

    policy = fit(prior, target, objective, steps=steps, lr=lr, on_step=follow).policy
    return policy, time.process_time() - cpu


def judged(
    name: str, policy: LanguageModel, target: Target, n: int, reference: Reference
) -> Numbers:
    found: Evaluation = evaluate(policy, target, n, seed=2, reference=reference)
    note(f"  {name}: {found.verdict.word}: {found.verdict.reason}")
    return {
        f"{name}: KL(p*|pi)": interval(found.kl_target_model),
        f"{name}: compile rate": interval(found.satisfied),
        f"{name}: entropy / target's": single(found.entropy.mean / found.entropy_target.mean),
        f"{name}: called collapsed": single(float(found.verdict.word == "collapsed")),
    }


if __name__ == "__main__":
    sys.exit(main("stdlib", __doc__, measure))
