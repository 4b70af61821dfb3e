"""Configurations of the `esscher align` commands: what flags, TOML files and docs show."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from esscher.align.config import FitConfig
from esscher.align.model_flags import TrainedFlags
from esscher.align.modelling import TargetOptions
from esscher.align.samplers import SAMPLERS, SamplerConfig
from esscher.align.twists import TwistConfig
from esscher.errors import ConfigError
from esscher.kit.stopping import BestOfN, EmpiricalLaw, ExponentialLaw, NormalLaw, RewardLaw

__all__ = [
    "CheckOptions",
    "CompareOptions",
    "DemoOptions",
    "EvaluateOptions",
    "FitOptions",
    "SampleOptions",
]

COMPARED = ("forward_kl", "vargrad", "reverse_kl", "sft_posterior", "js", "rl")
"""Objectives of a comparison that names none, in an order that fills two workers."""
REWARD_LAWS: Mapping[str, Callable[[], RewardLaw]] = {
    "normal": NormalLaw,
    "exponential": ExponentialLaw,
    "empirical": EmpiricalLaw,
}


@dataclass(frozen=True)
class FitOptions(TrainedFlags, TargetOptions):
    """`esscher align fit`: the target, and how to train towards it."""

    objective: str = "forward_kl"
    """forward_kl, js, reverse_kl, rl, sft_posterior, vargrad, tv, hellinger, chi2_forward,
    chi2_reverse, alpha:<number>, reinforce, trajectory_balance, subtb, ppo, dpo, rwr,
    grpo, dr_grpo, rwr_iterated, raft_iterated, best_of_n_distillation, or a known mistake:
    k1_loss_biased, k2_reward_biased, k3_reward_biased, k3_loss_biased, k3_token_loss_biased,
    k3_ratio_token_loss_biased."""
    proposal: Literal["auto", "on_policy", "prior", "adaptive", "mixture", "replay"] = "auto"
    """Law that draws the training samples; auto takes the objective's own choice."""
    steps: int | None = None
    """Optimiser steps; by default what suits the model."""
    batch: int | None = None
    """Draws per step; by default what suits the model."""
    lr: float | None = None
    """Peak learning rate of Adam; by default what suits the model."""
    credit: Literal["auto", "sequence", "token"] = "auto"
    """What forward_kl credits: whole draws, or single tokens by a learnt twist; auto takes tokens
    where that can be."""
    group: int = 16
    """Draws per prompt, where there are prompts."""
    average: float = 0.95
    """Decay of the moving average of the weights, which is the result; 0 for none."""
    floor: float = 5.0
    """Nats: a ruled-out draw counts as log-weight -floor where a finite one is needed."""
    kl_target: float | None = None
    """KL(π‖p0) in nats that the power of the evidence is steered to; the target then moves."""
    kl_cap: float = 100.0
    """KL(π‖p0) in nats at which training stops."""
    parts: int | None = None
    """Parts of a batch with random numbers of their own; as many as torchrun starts processes by
    default. Fits with equal parts take equal steps on any number of processes."""
    shard: bool = False
    """Under torchrun weights, gradients and moments rest in parts, one on every process: FSDP2."""
    seed: int = 0
    """One integer for every random number."""
    n: int = 1000
    """Draws of the final evaluation."""
    gold: str | None = None
    """Second judge as module:function or a built-in predicate, which the target knows nothing of;
    its mean is reported, and drawn against √KL(π‖p0)."""
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    name: str = "fit"
    """Name of the run."""

    def config(self) -> FitConfig:
        """The training settings among these."""
        names = {f.name for f in fields(FitConfig)} & {f.name for f in fields(self)}
        return FitConfig(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class EvaluateOptions(TargetOptions):
    """`esscher align evaluate`: a model against a target."""

    model: str | None = None
    """Model to measure: a model folder or a run of `align fit`; the prior itself by default."""
    n: int = 1000
    """Draws of the model and of the target, at least 25."""
    floor: float = 5.0
    """Nats: a ruled-out draw counts as log-weight -floor in KL(π‖p*)."""
    gold: str | None = None
    """Second judge as module:function or a built-in predicate, which the target knows nothing of;
    its mean is reported, and drawn against √KL(π‖p0)."""
    seed: int = 0
    """One integer for every random number."""
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    name: str = "evaluate"
    """Name of the run."""


@dataclass(frozen=True)
class CheckOptions(TargetOptions):
    """`esscher align check`: what can be known of a target before training."""

    n: int = 2000
    """Draws of the prior, at least 25."""
    seed: int = 0
    """One integer for every random number."""


@dataclass(frozen=True)
class SampleOptions(TargetOptions):
    """`esscher align sample`: draws of a target or of a model."""

    LEAST_N: ClassVar[int] = 1

    method: str = "quasi_rejection"
    """quasi_rejection, rejection, resample, best_of_n, soft_best_of_n, independence_mh, suffix_mh,
    block_mh, parallel_tempering, smc, awrs or twisted_smc; or model, which draws from the model
    as it is."""
    model: str | None = None
    """Proposal: a model folder or a run of `align fit`; the prior by default."""
    n: int = 100
    """Draws wanted."""
    prompt: str | None = None
    """What every text continues."""
    tvd: float = 0.1
    """Total variation to the target that quasi_rejection may keep, in (0, 1)."""
    log_bound: float | None = None
    """log of the bound on P/q, nats, where it is known; otherwise found from 2,000 draws."""
    pool: int = 16
    """Proposals per draw of best_of_n, soft_best_of_n and resample."""
    draw_cost: float | None = None
    """Cost of a proposal in nats of evidence: best_of_n then ends a pool where another one is not
    worth it."""
    reward_law: Literal["normal", "exponential", "empirical"] = "normal"
    """Law of the evidence's log-weights that each pool learns for this."""
    steps: int = 64
    """Moves of each Markov chain."""
    particles: int = 64
    """Particles per run of smc, awrs and twisted_smc."""
    twist: Literal["ctl", "fudge", "sixo", "path_consistency"] = "ctl"
    """How twisted_smc learns its twist."""
    twist_steps: int = 200
    """Steps for which it does."""
    out: Path | None = None
    """JSON Lines file for the texts; standard output by default."""
    seed: int = 0
    """One integer for every random number."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        known = [*SAMPLERS, "model"]
        if self.method not in known:
            near = difflib.get_close_matches(self.method, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"unknown method {self.method!r}{hint} Known: {', '.join(known)}")
        if self.draw_cost is not None and self.method != "best_of_n":
            raise ConfigError(f"only best_of_n weighs the cost of a draw, got {self.method!r}")
        self.config()

    def config(self) -> SamplerConfig:
        """The sampler's settings among these."""
        stop = None
        if self.draw_cost is not None:
            stop = BestOfN(self.draw_cost, REWARD_LAWS[self.reward_law]())
        return SamplerConfig(
            stop=stop,
            tvd=self.tvd,
            log_bound=self.log_bound,
            pool=self.pool,
            steps=self.steps,
            particles=self.particles,
            twist=TwistConfig(self.twist, steps=self.twist_steps, seed=self.seed),
        )


@dataclass(frozen=True)
class CompareOptions(FitOptions):
    """`esscher align compare`: several objectives at an equal number of draws or of seconds."""

    objectives: tuple[str, ...] = COMPARED
    """Objectives to compare; repeat the flag."""
    seconds: float | None = None
    """CPU seconds that each objective may train, instead of an equal number of steps."""
    scale: str = "processes:2"
    """Where the fits run, one thread each, and their rewards with them: serial (in this process),
    processes:N, ray:auto, ray:N or ray:ADDRESS, whose machines then share the folder of runs."""
    name: str = "compare"
    """Name of the run."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        for objective in self.objectives:
            FitConfig(objective)
        if not self.objectives:
            raise ConfigError("compare needs an objective, got none")
        if self.seconds is not None and (self.steps is not None or not self.seconds > 0):
            raise ConfigError(
                "compare takes an equal number of steps or positive seconds, got "
                f"steps={self.steps} and seconds={self.seconds}"
            )


@dataclass(frozen=True)
class DemoOptions:
    """`esscher align demo`: the whole idea on a small model that needs no download."""

    objectives: tuple[str, ...] = COMPARED
    """Objectives to compare; repeat the flag."""
    steps: int = 60
    """Optimiser steps of each objective."""
    batch: int = 256
    """Draws per step; steps · batch is the sampling budget each objective gets."""
    n: int = 2000
    """Draws of each final evaluation."""
    scale: str = "processes:2"
    """Where the fits run, one thread each: serial, processes:N, ray:auto, ray:N or ray:ADDRESS."""
    seed: int = 0
    """One integer for every random number."""
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    name: str = "stdlib"
    """Name of the run."""

    def comparison(self) -> CompareOptions:
        """The comparison the demo makes."""
        return CompareOptions(
            condition=("compiles",),
            objectives=self.objectives,
            steps=self.steps,
            batch=self.batch,
            n=self.n,
            scale=self.scale,
            seed=self.seed,
            runs=self.runs,
            name=self.name,
        )
