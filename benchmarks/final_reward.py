"""Where training ends on configuration T0: E[r] after 160 steps against the posterior's.

The posterior's value comes from 38,400 prior draws by self-normalised importance sampling. All runs
use the learning rate 3e-3: ours with the default schedule, TRL's constant. A final value is the
mean reward of 9600 fresh draws.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import contextlib
import io

import _t0
import torch
from _harness import Numbers, Spread, main, note, one_thread

from esscher.align.fit import fit
from esscher.core.estimate import Estimate, from_samples
from esscher.core.importance import normalised_weights
from esscher.kit.lm.hf import TransformersLM
from esscher.kit.lm.language_model import LanguageModel

STEPS, LR, DRAWS, PRIOR_DRAWS, SEEDS = 160, 3e-3, 9600, 38_400, (0, 1, 2)
OURS = {
    "small": ("reverse_kl", "vargrad"),
    "hf": ("reverse_kl", "vargrad"),
}
PEERS = ("GRPO", "RLOO")


def rewards(lm: LanguageModel, n: int = DRAWS, seed: int = 1234) -> torch.Tensor:
    """Reward of n draws, as many from every prompt."""
    prompts = [p for p in _t0.PROMPTS for _ in range(n // len(_t0.PROMPTS))]
    drawn = lm.sample(len(prompts), context=prompts, rng=torch.Generator().manual_seed(seed))
    return torch.tensor(_t0.reward(lm.items(drawn.x)), dtype=torch.float64)


def posterior_mean(prior: LanguageModel) -> Estimate:
    """E_p*[r], every prompt normalised by itself; the error by the delta method."""
    parts = []
    for r in rewards(prior, PRIOR_DRAWS).view(len(_t0.PROMPTS), -1):
        weight = normalised_weights(r / _t0.BETA)
        mean = float((weight * r).mean())
        parts.append((mean, float((weight**2 * (r - mean) ** 2).mean()) / len(r)))
    se = sum(p[1] for p in parts) ** 0.5 / len(parts)
    return Estimate(sum(p[0] for p in parts) / len(parts), se, PRIOR_DRAWS)


def our_end(prior: LanguageModel, objective: str, seed: int) -> Estimate:
    target = _t0.target_of(prior)
    batch = len(_t0.PROMPTS) * _t0.PER_PROMPT
    settings = {"steps": STEPS, "batch": batch, "lr": LR}
    policy = fit(prior, target, objective, seed=seed, prompts=_t0.PROMPTS, **settings).policy
    return from_samples(rewards(policy))


def trl_end(kind: str, seed: int) -> Estimate:
    silent = _t0.at_steps(lambda done: None)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = _t0.trl_trainer(kind, STEPS, lr=LR, callback=silent, seed=seed)
        trainer.train()
    model = TransformersLM(trainer.model, _t0.hf_tokenizer(), _t0.MAX_NEW)
    return from_samples(rewards(model))


def over_seeds(end, seeds: tuple[int, ...], label: str) -> list[float]:
    out = []
    for seed in seeds:
        found = end(seed)
        note(f"  {label:22s} seed {seed}: E[r] = {found.mean:.4f} ± {found.se:.4f}")
        out.append(found.mean)
    return out


def our_numbers(seeds: tuple[int, ...]) -> Numbers:
    numbers: Numbers = {}
    for kind, prior in (("small", _t0.small_lm()), ("hf", _t0.hf_lm())):
        goal = posterior_mean(prior)
        note(
            f"  {kind}: E_p0[r] = {rewards(prior).mean():.4f}, E_p*[r] = {goal.mean:.4f} "
            f"± {goal.se:.4f}"
        )
        numbers[f"{kind}: E_p*[r]"] = Spread(goal.mean, goal.mean - goal.se, goal.mean + goal.se)
        for objective in OURS[kind]:
            ends = over_seeds(
                lambda seed, o=objective, p=prior: our_end(p, o, seed), seeds, f"{kind} {objective}"
            )
            numbers[f"{kind} {objective}: E[r]"] = Spread.of(ends)
            numbers[f"{kind} {objective}: E[r] / E_p*[r]"] = Spread.of(e / goal.mean for e in ends)
    return numbers


def trl_numbers(seeds: tuple[int, ...], goal: float) -> Numbers:
    numbers: Numbers = {}
    for kind in PEERS:
        ends = over_seeds(lambda seed, k=kind: trl_end(k, seed), seeds, f"TRL {kind}")
        numbers[f"TRL {kind}: E[r]"] = Spread.of(ends)
        numbers[f"TRL {kind}: E[r] / E_p*[r]"] = Spread.of(e / goal for e in ends)
    return numbers


def measure(quick: bool) -> Numbers:
    """Quick: one seed instead of three."""
    one_thread()
    seeds = SEEDS[:1] if quick else SEEDS
    numbers = our_numbers(seeds)
    if _t0.trl_missing():
        note(f"trl is not installed, so only our own ends are measured; for the peer: {_t0.PIP}")
        return numbers
    return numbers | trl_numbers(seeds, numbers["hf: E_p*[r]"].median)


def run(quick: bool = False, output: object = None) -> dict[str, float]:
    return {key: spread.median for key, spread in measure(quick).items()}


if __name__ == "__main__":
    sys.exit(main("final_reward", __doc__, measure))
