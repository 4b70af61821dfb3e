"""`esscher branch fit` and `demo`, as the command line calls them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from esscher.branch.comparison import compare
from esscher.branch.config import TrainConfig, configuration
from esscher.branch.options import CompareOptions, Selector, Settings
from esscher.branch.problems import problems_of
from esscher.branch.training import POLICY
from esscher.branch.training import fit as fit_network
from esscher.branch.trajectories import Select
from esscher.errors import ConfigError
from esscher.kit.runs.figures import Series, line_figure
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output
from esscher.kit.runs.report import Card, Report
from esscher.kit.scale.pool import check_scale, open_pool

__all__ = ["DemoOptions", "FitOptions", "demo", "fit", "train_config"]


@dataclass(frozen=True)
class FitOptions:
    """`esscher branch fit`: learn to branch in a class of instances."""

    method: Literal["retro", "fmsts", "fmsts_path", "original", "tmdp", "imitation"] = "retro"
    """Q-learning on retrospective paths (retro) or on the solve as it went (original), regression
    of sub-tree sizes (fmsts) or path lengths (fmsts_path), policy gradients in the tree MDP (tmdp),
    imitation of strong branching."""
    problems: str = "setcover-165x230"
    """Class of instances, or a folder of them; a third of a folder is held out."""
    minutes: float = 30.0
    """Wall clock of training, > 0."""
    episodes: int | None = None
    """Training instances at most; with it, and not much time, results depend on the seed only."""
    settings: Settings = "bare"
    """SCIP's parameters, see `esscher branch evaluate --help`."""
    selector: Selector | None = None
    """Node selection while training; the method's own by default."""
    select: Select = "max_leaf_lp_gain"
    """Where retrospective paths lead."""
    features: Literal["gasse19", "retro43"] = "gasse19"
    """Features of a column: its own, or those of the search tree besides."""
    width: int = 32
    """Units of the network's layers."""
    head: Literal["plain", "dueling"] | None = None
    """Value of a candidate alone (plain), or of the state and the candidate's share apart (dueling,
    the default of methods that learn values)."""
    n_step: int = 1
    """Rewards summed before the value of what follows."""
    lr: float | None = None
    """Learning rate; the method's own by default."""
    samples: int = 5000
    """Decisions of strong branching that imitation gathers."""
    validation: int = 20
    """Instances on which the best network is chosen."""
    max_decisions: int = 400
    """Decisions after which a training solve is stopped."""
    published: bool = False
    """Sizes and rates that the authors of retro branching released, at 500x1000: for GPU-days."""
    scale: str = "serial"
    """Where training instances are solved: serial, processes:N or ray:N."""
    seed: int = 0
    """One integer for every random number."""
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    name: str = "branch"
    """Name of the run."""


@dataclass(frozen=True)
class DemoOptions:
    """`esscher branch demo`."""

    minutes: float = 3.0
    """Training, of retrospective trajectories."""
    instances: int = 20
    """Held-out instances of the comparison."""
    seed: int = 0
    """One integer for every random number."""
    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    name: str = "demo"
    """Name of the run."""

    def __post_init__(self) -> None:
        if not self.minutes > 0 or self.instances < 1:
            raise ConfigError(
                f"a demo needs minutes > 0 and instances >= 1, got {self.minutes} and "
                f"{self.instances}"
            )


def fit(config: FitOptions, output: Output, *, resume: Path | None = None) -> dict[str, Any]:
    """Learn to branch."""
    settings = train_config(config)
    check_scale(config.scale)
    problems_of(settings.problem)
    if resume is None:
        run = Run.create(config.runs, "branch", "fit", config.name, config=config, seed=config.seed)
    else:
        run = Run.open(resume, config)
    with run:
        history = _fitted(settings, config.scale, config.seed, run, output)
        best = min(history, key=lambda row: row["nodes_gmean"])
        numbers: dict[str, Any] = {
            "method": config.method,
            "instances": history[-1]["step"],
            "decisions": history[-1]["decisions"],
            "updates": history[-1]["updates"],
            "minutes": history[-1]["minutes"],
            "nodes_gmean_first": history[0]["nodes_gmean"],
            "nodes_gmean_best": best["nodes_gmean"],
        }
        report = _fit_report(run, config, history)
        run.finish(numbers)
    return {
        "report": str(report), "run": str(run.path), "policy": str(run.path / POLICY), **numbers,
    }  # fmt: skip


def demo(config: DemoOptions, output: Output) -> dict[str, Any]:
    """Learn to branch within minutes, and see what it is worth."""
    output.say("learning from trajectories of finished trees")
    fitted = fit(
        FitOptions(
            minutes=config.minutes, seed=config.seed, runs=config.runs, name=f"{config.name}-fit"
        ),
        output,
    )
    told = compare(
        "random", "mostinfeasible", "pseudocost", f"retro={fitted['run']}", "strong", "relpscost",
        config=CompareOptions(
            problems="setcover-165x230", count=config.instances, seed=config.seed,
            runs=config.runs, name=config.name, base="random",
        ),
        output=output,
    )  # fmt: skip
    return {"report": told["report"], "policies": told["policies"], "policy": fitted["policy"]}


def train_config(options: FitOptions) -> TrainConfig:
    """What flags say, as the learner's configuration.

    Raises:
        ConfigError: if a number is out of range.
    """
    if not options.minutes > 0:
        raise ConfigError(f"minutes must be > 0, got {options.minutes}")
    changes: dict[str, Any] = {}
    if not options.published:
        changes = {
            "problem": options.problems, "settings": options.settings,
            "network__features": options.features, "network__width": options.width,
        }  # fmt: skip
    if options.selector is not None:
        changes["selector"] = options.selector
    if options.head is not None:
        changes["network__head"] = options.head
    if options.lr is not None:
        part = {"tmdp": "reinforce", "imitation": "cloning"}.get(options.method, "dqn")
        changes[f"{part}__lr"] = options.lr
    changes |= {
        "select": options.select,
        "n_step": options.n_step,
        "imitation__samples": options.samples,
        "budget__minutes": options.minutes,
        "budget__episodes": options.episodes,
        "budget__every": max(options.minutes / 10, 1e-3) if options.minutes < math.inf else 5.0,
        "budget__validation": options.validation,
        "budget__max_decisions": options.max_decisions,
    }
    return configuration(options.method, published=options.published, **changes)


def _fitted(
    settings: TrainConfig, scale: str, seed: int, run: Run, output: Output
) -> list[dict[str, Any]]:
    def tell(row: dict[str, Any]) -> None:
        output.say(
            f"{row['step']} instances, {row['minutes']:.1f} min: {row['nodes_gmean']:.1f} nodes"
        )

    with open_pool(scale) as pool, output.progress(100, "fit") as progress:
        result = fit_network(
            settings,
            seed=seed,
            run=run,
            pool=pool,
            on_row=tell,
            on_episode=lambda _, share: progress.update(int(100 * share) - progress.done),
        )
    return result.history


def _fit_report(run: Run, config: FitOptions, history: list[dict[str, Any]]) -> Path:
    best = min(history, key=lambda row: row["nodes_gmean"])
    report = Report("A policy that branches", f"{config.method} on {config.problems}")
    report.cards(
        [
            Card("nodes, geometric mean", best["nodes_gmean"], f"{config.validation} instances"),
            Card("before training", history[0]["nodes_gmean"]),
            Card("training instances", history[-1]["step"]),
        ]
    )
    steps = [row["step"] for row in history]
    mean = [row["log2_nodes"]["mean"] for row in history]
    se = [row["log2_nodes"]["se"] for row in history]
    report.section("Learning").figure(
        line_figure(
            [Series(config.method, steps, mean, se)],
            xlabel="training instances",
            ylabel="mean of log2 nodes",
        ),
        "Size of the trees on held-out instances, with ±1.96 standard errors over them. The best "
        "of these networks is the policy that is kept.",
    )
    for name, meaning in _MEANING.items():
        known = [(row["step"], row[name]) for row in history if name in row]
        if known:
            curve = Series(name, [k for k, _ in known], [v for _, v in known])
            report.figure(line_figure([curve], xlabel="training instances", ylabel=name), meaning)
    report.section("How it was made")
    report.details("Configuration", (run.path / "config.toml").read_text(encoding="utf-8"))
    report.details("Environment", json.dumps(run.env(), indent=2))
    return report.write(run.path / "report.html")


_MEANING = {
    "loss": "What gradient steps descend, mean since the last measurement. In Q-learning it may "
    "rise while trees shrink: it is against Q's own target, which grows as Q sees further.",
    "held_out_loss": "Cross-entropy on the expert's decisions that are not learnt from, nats.",
    "top_1": "Share of them in which the network's first choice is the expert's.",
    "train_decisions": "Decisions per training instance, random ones included.",
}
