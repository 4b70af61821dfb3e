"""Beside TRL in one invocation: time per step, where training ends, and time to the posterior.

Configuration T0 (0.1 M parameters) and the same task with a 10.5 M-parameter GPT-2, β = 0.1,
8 prompts × 8 completions of at most 16 tokens. Step times as in `step_time`, ends as in
`final_reward` but for every objective of ours that descends KL(π‖p*). Time to the posterior: CPU
seconds of training until KL(π‖p*) ≤ 0.02, looked at every fifth step, outside the clock, on 9,600
fixed draws of the prior, over three seeds. The weights looked at are averaged alike on both sides,
which only `fit` does by itself and which costs the peer nothing here. The learning rate is 3e-4
for all, as at 3e-3 no system stays near p*; the peer keeps it, ours rises over 40 steps and falls
as a cosine over 400. Batches are equal; ours come from VarGrad's own choice, prior then policy,
or half from either.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import contextlib
import copy
import io
import time
from collections.abc import Callable

import _t0
import final_reward
import step_time
import torch
from _harness import Numbers, Spread, interleaved, main, note, one_thread, ratio, seconds, single

from esscher.align.config import FitConfig
from esscher.align.objectives import Proposal
from esscher.align.train import init, step
from esscher.core.distance import divergence_snis
from esscher.core.divergence import DIVERGENCES
from esscher.kit.lm.averaging import update_average
from esscher.kit.lm.hf import TransformersLM
from esscher.kit.lm.language_model import LanguageModel

LARGE = _t0.Shape(320, 8, 5, 2048)
REVERSE = ("reverse_kl", "vargrad", "reinforce", "ppo")
NEAR, LR, MOST, LOOK, DRAWS, SEEDS = 0.02, 3e-4, 400, 5, 9600, (0, 1, 2)
DECAY = FitConfig.average
PROPOSALS: tuple[Proposal, ...] = ("adaptive", "mixture")

Distance = Callable[[LanguageModel], float]


def step_times(quick: bool) -> Numbers:
    """Interleaved medians on both sizes."""
    numbers: Numbers = {}
    plans = {"T0": (_t0.T0, 20 if quick else 60), "10 M": (LARGE, 3 if quick else 10)}
    for label, (shape, steps) in plans.items():
        times = interleaved(step_time.cases(steps, shape), 3 if quick else 5)
        for peer in (p for p in step_time.PEERS if p in times):
            for own in step_time.OURS:
                numbers[f"{label} step: {peer} / {own}"] = ratio(times[peer], times[own])
        for name, found in times.items():
            numbers[f"{label} step: {name}, CPU s"] = seconds(found)
    return numbers


def ends(quick: bool) -> Numbers:
    """E[r] after 160 steps over the posterior's."""
    seeds = final_reward.SEEDS[:1] if quick else final_reward.SEEDS
    prior = _t0.small_lm()
    goal = final_reward.posterior_mean(prior).mean
    numbers: Numbers = {}
    for objective in REVERSE:
        found = final_reward.over_seeds(
            lambda seed, o=objective: final_reward.our_end(prior, o, seed), seeds, objective
        )
        numbers[f"end: {objective}: E[r] / E_p*[r]"] = Spread.of(e / goal for e in found)
    if not _t0.trl_missing():
        theirs = final_reward.posterior_mean(_t0.hf_lm()).mean
        numbers |= {
            f"end: {name}": value
            for name, value in final_reward.trl_numbers(seeds, theirs).items()
            if "/" in name
        }
    return numbers


def distance_from(prior: LanguageModel) -> Distance:
    """KL(π‖p*) of a policy, the mean over prompts, on draws of the prior that are always the same.

    Differences of policies are then free of most of the noise.
    """
    prompts = [p for p in _t0.PROMPTS for _ in range(DRAWS // len(_t0.PROMPTS))]
    x, log_p0 = prior.sample(DRAWS, context=prompts, rng=torch.Generator().manual_seed(77))
    reward = torch.tensor(_t0.reward(prior.items(x)), dtype=torch.float64)
    log_target = log_p0.double() + reward / _t0.BETA
    shape = (len(_t0.PROMPTS), -1)

    def distance(policy: LanguageModel) -> float:
        log_pi = policy.log_prob(x, context=prompts).double().view(shape)
        rows = zip(log_pi, log_p0.double().view(shape), log_target.view(shape), strict=True)
        found = [divergence_snis(DIVERGENCES["reverse_kl"], *row).mean for row in rows]
        return sum(found) / len(found)

    return distance


class Clock:
    """CPU seconds of training without the looks at it, until the policy is near."""

    def __init__(self, label: str, distance: Distance) -> None:
        self.label, self.distance = label, distance
        self.spent, self.began, self.near = 0.0, time.process_time(), False

    def look(self, done: int, policy: Callable[[], LanguageModel]) -> bool:
        """After every step, with what gives the policy; whether training may stop."""
        self.spent += time.process_time() - self.began
        law = policy()
        if done % LOOK == 0:
            kl = self.distance(law)
            note(f"  {self.label} {done:4d} steps {self.spent:7.2f} CPU s  KL(π‖p*) {kl:.4f}")
            self.near = kl <= NEAR
        self.began = time.process_time()
        return self.near

    @property
    def seconds(self) -> float:
        """Until it was near; infinite if it never was."""
        return self.spent if self.near else float("inf")


def our_time(
    prior: LanguageModel, label: str, seed: int, distance: Distance, proposal: Proposal
) -> float:
    """CPU seconds of VarGrad; set-up is not counted."""
    shape = {"batch": len(_t0.PROMPTS) * _t0.PER_PROMPT, "group": _t0.PER_PROMPT}
    config = FitConfig("vargrad", proposal, steps=MOST, lr=LR, seed=seed, **shape)
    target, state = _t0.target_of(prior), init(prior.clone(), config)
    clock = Clock(label, distance)
    for done in range(1, MOST + 1):
        step(state, target, config, _t0.PROMPTS)
        if clock.look(done, lambda: state.average):
            break
    return clock.seconds


def trl_time(seed: int, distance: Distance) -> float:
    """CPU seconds of TRL's RLOO; its set-up, first step and averaging are not counted."""
    clock = Clock("TRL RLOO", distance)

    def action(done: int) -> bool:
        if done == 1:
            clock.began = time.process_time()
        return clock.look(done, lambda: averaged(done))

    def averaged(done: int) -> TransformersLM:
        update_average(average.model, trainer.model, DECAY, done)
        return average

    with contextlib.redirect_stdout(io.StringIO()):
        callback = _t0.at_steps(action)
        trainer = _t0.trl_trainer("RLOO", MOST, lr=LR, callback=callback, seed=seed)
        own = copy.deepcopy(trainer.model)
        average = TransformersLM(own, _t0.hf_tokenizer(), _t0.MAX_NEW)
        trainer.train()
    return clock.seconds


def times_to_target(quick: bool) -> Numbers:
    """Seconds to KL(π‖p*) ≤ 0.02, and ratios seed by seed."""
    seeds = SEEDS[:1] if quick else SEEDS
    priors = {"small": _t0.small_lm(), "hf": _t0.hf_lm()}
    near = {name: distance_from(prior) for name, prior in priors.items()}
    numbers: Numbers = {f"T0 {n}: KL(p0‖p*)": single(near[n](p)) for n, p in priors.items()}
    spent = {
        f"{name}, {proposal}": [
            our_time(prior, f"{name} {proposal}", seed, near[name], proposal) for seed in seeds
        ]
        for name, prior in priors.items()
        for proposal in PROPOSALS
    }
    if not _t0.trl_missing():
        ours = list(spent)
        spent["trl_rloo"] = [trl_time(seed, near["hf"]) for seed in seeds]
        for name in ours:
            pairs = zip(spent["trl_rloo"], spent[name], strict=True)
            numbers[f"to KL ≤ 0.02: trl_rloo / {name}"] = Spread.of(a / b for a, b in pairs)
    for name, found in spent.items():
        numbers[f"to KL ≤ 0.02: {name}, CPU s"] = Spread.of(found)
    return numbers


def measure(quick: bool) -> Numbers:
    """Quick: fewer rounds of steps and one seed instead of three."""
    one_thread()
    if _t0.trl_missing():
        note(f"trl is not installed, so only our own side is measured; for the peer: {_t0.PIP}")
    return step_times(quick) | ends(quick) | times_to_target(quick)


def run(quick: bool = False, output: object = None) -> dict[str, float]:
    return {key: spread.median for key, spread in measure(quick).items()}


if __name__ == "__main__":
    sys.exit(main("align_vs_trl", __doc__, measure))
