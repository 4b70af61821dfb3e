"""Seconds per on-policy training step on configuration T0, next to TRL's GRPO and RLOO.

Every system draws 64 completions of at most 16 tokens from 8 prompts and takes one optimiser step.
The learning rate is 1e-6 everywhere, so that completions keep the length of the prior's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import contextlib
import io

import _t0
from _harness import (
    Numbers,
    Round,
    Timing,
    interleaved,
    main,
    note,
    one_thread,
    ratio,
    seconds,
    timed,
)

from esscher.align.config import FitConfig
from esscher.align.train import init, step
from esscher.kit.lm.language_model import LanguageModel

LR = 1e-6
TOTAL = 10**6
OURS = {
    "small_reverse_kl": ("small", "reverse_kl"),
    "small_vargrad": ("small", "vargrad"),
    "hf_reverse_kl": ("hf", "reverse_kl"),
}
PEERS = {
    "trl_grpo": ("GRPO", {}),
    "trl_rloo": ("RLOO", {}),
    "trl_grpo_no_checkpointing": ("GRPO", {"gradient_checkpointing": False}),
}


def our_rounds(prior: LanguageModel, objective: str, steps: int) -> Round:
    """One round: `steps` training steps of a policy that started at the prior."""
    target = _t0.target_of(prior)
    batch = len(_t0.PROMPTS) * _t0.PER_PROMPT
    config = FitConfig(objective, steps=TOTAL, batch=batch, group=_t0.PER_PROMPT, lr=LR)
    state = init(prior.clone(), config)

    def work() -> int:
        for _ in range(steps):
            step(state, target, config, _t0.PROMPTS)
        return steps

    work()
    return lambda: timed(work)


def trl_round(kind: str, steps: int, settings: dict[str, object]) -> Round:
    """One round: a fresh trainer; its first step, which warms up, is not counted."""

    def once() -> Timing:
        ticks: list[tuple[float, float]] = []

        def tick(done: int) -> None:
            if done in (1, steps + 1):
                ticks.append((time.process_time(), time.perf_counter()))

        with contextlib.redirect_stdout(io.StringIO()):
            trainer = _t0.trl_trainer(
                kind, steps + 1, lr=LR, callback=_t0.at_steps(tick), **settings
            )
            trainer.train()
        (cpu, wall), (cpu_end, wall_end) = ticks
        return Timing((cpu_end - cpu) / steps, (wall_end - wall) / steps)

    return once


def cases(steps: int, shape: _t0.Shape = _t0.T0) -> dict[str, Round]:
    priors: dict[str, Callable[[_t0.Shape], LanguageModel]]
    priors = {"small": _t0.small_lm, "hf": _t0.hf_lm}
    found = {name: our_rounds(priors[m](shape), o, steps) for name, (m, o) in OURS.items()}
    if _t0.trl_missing():
        note(f"trl is not installed, so only our own steps are timed; for the peer: {_t0.PIP}")
        return found
    peers = {name: (kind, {**extra, "shape": shape}) for name, (kind, extra) in PEERS.items()}
    return found | {name: trl_round(kind, steps, extra) for name, (kind, extra) in peers.items()}


def measure(quick: bool) -> Numbers:
    one_thread()
    times = interleaved(cases(20 if quick else 60), 3 if quick else 5)
    numbers: Numbers = {}
    for peer in (p for p in PEERS if p in times):
        for own in OURS:
            numbers[f"{peer} / {own}"] = ratio(times[peer], times[own])
    for peer in (p for p in ("trl_grpo",) if p in times):
        for own in OURS:
            numbers[f"{peer} / {own}, wall"] = ratio(times[peer], times[own], "wall")
    for name, found in times.items():
        numbers[f"{name}, CPU-ms per step"] = seconds([Timing(1e3 * t.cpu, 0.0) for t in found])
    return numbers


def run(quick: bool = False, output: object = None) -> dict[str, float]:
    return {key: spread.median for key, spread in measure(quick).items()}


if __name__ == "__main__":
    sys.exit(main("step_time", __doc__, measure))
