"""`esscher branch evaluate` and `compare`, as the command line calls them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from esscher.branch.evaluate import evaluate as evaluate_policies
from esscher.branch.named import labelled, policy_named
from esscher.branch.options import CompareOptions, EvaluateOptions
from esscher.branch.problems import InFile, Problem, problems_of
from esscher.branch.recorded import paths_of, record
from esscher.branch.rows import Row
from esscher.branch.setup import setup_of
from esscher.branch.summary import Summary, summarise
from esscher.errors import ConfigError
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output
from esscher.kit.runs.seeds import Streams
from esscher.kit.runs.text import format_value
from esscher.kit.scale.pool import check_scale

__all__ = ["ROWS", "compare", "evaluate"]

ROWS = "rows.jsonl"
"""File of a run folder that holds a row for every solve."""


def evaluate(
    *policies: str, config: EvaluateOptions, output: Output, resume: Path | None = None
) -> dict[str, Any]:
    """Measure policies on the same instances with the same seeds."""
    options = replace(config, policies=policies) if policies else config
    task = _Evaluation(options)
    run = _opened(options, "evaluate", resume)
    with run:
        rows, summaries = task.run(run, output)
        numbers = task.numbers(rows, summaries)
        run.finish(numbers)
    return {"run": str(run.path), "rows": str(run.path / ROWS), **_told(numbers, output)}


def compare(
    *policies: str, config: CompareOptions, output: Output, resume: Path | None = None
) -> dict[str, Any]:
    """Measure policies, draw their trees, and write a report."""
    from esscher.branch.report import Drawn, compare_report, learning_curves  # noqa: PLC0415

    options = replace(config, policies=policies) if policies else config
    task = _Evaluation(options)
    if not 0 <= options.drawn < len(task.problems):
        raise ConfigError(
            f"drawn must be a number from 0 among {len(task.problems)} instances, got "
            f"{options.drawn}"
        )
    run = _opened(options, "compare", resume)
    with run:
        rows, summaries = task.run(run, output)
        problem = task.problems[options.drawn]
        output.say(f"drawing the trees of {problem.name}")
        drawn = {}
        for label, name in task.policies.items():
            policy = policy_named(name, options.seed)
            tree, _ = record(problem.model(), policy, setup_of(options), options.seed)
            drawn[label] = Drawn(tree, paths_of(tree))
        curves = learning_curves(task.policies)
        report = compare_report(
            run, rows, summaries, base=task.base, instance=problem.name, drawn=drawn, curves=curves
        )
        numbers = task.numbers(rows, summaries)
        run.finish(numbers)
    where = {"report": str(report), "run": str(run.path), "rows": str(run.path / ROWS)}
    return where | _told(numbers, output)


class _Evaluation:
    """What an evaluation needs; all that can be wrong is looked at before there is a run."""

    def __init__(self, options: EvaluateOptions) -> None:
        self.options = options
        self.policies = labelled(options.policies)
        if not self.policies:
            raise ConfigError("name the policies: esscher branch evaluate POLICY…")
        self.base = options.base or next(iter(self.policies))
        if self.base not in self.policies:
            raise ConfigError(f"the base {self.base!r} is none of {', '.join(self.policies)}")
        check_scale(options.scale)
        for name in (*self.policies.values(), f"scip:{options.fallback}"):
            policy_named(name)
        self.problems: list[Problem] = problems_of(
            options.problems, options.count, options.problem_seed
        )
        for problem in self.problems:
            if isinstance(problem, InFile):
                problem.model()

    def run(self, run: Run, output: Output) -> tuple[list[Row], dict[str, Summary]]:
        """Rows, and what they say of every policy."""
        options = self.options
        seeds = range(options.seed, options.seed + options.seeds)
        total = len(self.policies) * len(self.problems) * len(seeds)
        with output.progress(total, "solve") as progress:
            rows = evaluate_policies(
                self.policies,
                self.problems,
                setup=setup_of(options),
                seeds=seeds,
                scale=options.scale,
                journal=run.path / ROWS,
                tell=lambda done: progress.update(done - progress.done),
            )
        return rows, summarise(rows, self.base, rng=Streams(options.seed).numpy("bootstrap"))

    def numbers(self, rows: list[Row], summaries: dict[str, Summary]) -> dict[str, Any]:
        """What is printed and kept."""
        return {
            "base": self.base,
            "instances": len(self.problems),
            "solves": len(rows),
            "policies": {name: summary.to_json() for name, summary in summaries.items()},
        }


_SHOWN = ("nodes_mean", "nodes_gmean", "seconds_gmean", "nodes_ratio")


def _told(numbers: dict[str, Any], output: Output) -> dict[str, Any]:
    """The numbers; for people a table of the most important ones, a line per policy."""
    if output.json:
        return numbers
    rows = [
        {"policy": name, "wins": round(found["wins"].mean, 1)}
        | {key: _short(found[key]) for key in _SHOWN}
        for name, found in numbers["policies"].items()
    ]
    return numbers | {"policies": rows}


def _short(value: Any) -> str:
    return "–" if value is None else format_value(value, with_n=False)


def _opened(options: EvaluateOptions, verb: str, resume: Path | None) -> Run:
    if resume is not None:
        return Run.open(resume, options)
    return Run.create(options.runs, "branch", verb, options.name, config=options, seed=options.seed)
