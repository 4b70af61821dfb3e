"""`esscher pandora ...`, as the command line calls them."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from esscher.errors import ConfigError, DataError
from esscher.kit.runs.output import Output
from esscher.kit.runs.typed import nearest
from esscher.pandora import examples
from esscher.pandora.commit import CommittingPolicy, best_commitment
from esscher.pandora.families import FAMILIES
from esscher.pandora.files import read_instance, read_scenarios, write_instance
from esscher.pandora.instance import PandoraInstance
from esscher.pandora.options import (
    CompareOptions,
    DemoOptions,
    GenerateOptions,
    SimulateOptions,
    SolveOptions,
)
from esscher.pandora.policy import TwoPhasePolicy
from esscher.pandora.result import Result
from esscher.pandora.simulate import simulate as play
from esscher.pandora.solve import solve as find

__all__ = ["compare", "demo", "generate", "simulate", "solve"]


def solve(file: Path, /, *, config: SolveOptions, output: Output) -> dict[str, Any]:
    """Find a policy, what it is worth, and a bound on what any policy is worth."""
    instance = read_instance(file)
    result = _found(instance, config.settings(), output)
    return {
        "value": result.value,
        "upper_bound": result.upper_bound,
        "gap": result.gap,
        "certified": result.certified,
        "method": result.method,
        "order": list(result.policy.order),
        "backup": result.policy.backup,
        "weitzman": result.weitzman,
        "committing": result.committing,
        **_reported(instance, result, config, file.stem),
    }


def compare(file: Path, /, *, config: CompareOptions, output: Output) -> dict[str, Any]:
    """Set the best commitment, Weitzman's rule and the upper bound beside the policy found."""
    instance = read_instance(file)
    result = _found(instance, config.settings(), output)
    return {
        "optimum": result.value,
        "committing": result.committing,
        "weitzman": result.weitzman,
        "upper_bound": result.upper_bound,
        "ratios": {
            "committing / optimum": _ratio(result.committing, result.value),
            "weitzman / optimum": _ratio(result.weitzman, result.value),
            "optimum / upper_bound": _ratio(result.value, result.upper_bound),
        },
        "certified": result.certified,
        "method": result.method,
        **_reported(instance, result, config, file.stem),
    }


def simulate(file: Path, /, *, config: SimulateOptions, output: Output) -> dict[str, Any]:
    """Play a policy many times and set what it earns beside what was computed."""
    instance = read_instance(file)
    policy = _policy(instance, config, output)
    scenarios = None if config.scenarios is None else read_scenarios(config.scenarios, instance)
    found = play(instance, policy, config.n, config.seed, scenarios=scenarios)
    told: dict[str, Any] = {"policy": config.policy, **found.to_json()}
    if scenarios is None:
        off = found.off_by(policy.value)
        told |= {
            "computed": policy.value,
            "standard_errors_off": off if math.isfinite(off) else None,
        }
        told["ok"] = bool(abs(off) < 5)
    return told


def generate(config: GenerateOptions, output: Output) -> dict[str, Any] | None:
    """Write an instance of a family."""
    instance = _member(config)
    if config.out is not None:
        write_instance(config.out, instance)
        return {"out": str(config.out), "family": config.family, "boxes": len(instance)}
    if output.json:
        return instance.to_dict()
    sys.stdout.write(json.dumps(instance.to_dict(), indent=1) + "\n")
    return None


def demo(config: DemoOptions, output: Output) -> dict[str, Any]:
    """Show on two small examples what simpler rules leave on the table, and write a report."""
    from esscher.kit.runs.folder import Run  # noqa: PLC0415 - it loads torch

    run = Run.create(config.runs, "pandora", "demo", config.name, config=config, seed=config.seed)
    with run:
        path, numbers = examples.write_demo(run, output, config.plays, config.seed)
        run.finish(numbers)
    return {"report": str(path), "run": str(run.path), **numbers}


def _member(config: GenerateOptions) -> PandoraInstance:
    if config.family not in FAMILIES:
        hint = nearest(config.family, list(FAMILIES))
        raise ConfigError(f"unknown family {config.family!r}{hint}; known: {', '.join(FAMILIES)}")
    more: dict[str, Any] = {"height": config.H} if config.family == "tight" else {}
    n = config.n if config.n is not None else 2 if config.family == "tight" else 8
    return FAMILIES[config.family](n, config.seed, **more)


def _found(instance: PandoraInstance, settings: dict[str, Any], output: Output) -> Result:
    output.say(f"searching for a policy on {len(instance)} boxes")
    result = find(instance, **settings)
    if result.note:
        output.detail(result.note)
    return result


def _policy(
    instance: PandoraInstance, config: SimulateOptions, output: Output
) -> TwoPhasePolicy | CommittingPolicy:
    if config.policy == "committing":
        return best_commitment(instance)
    if config.policy == "weitzman":
        return TwoPhasePolicy(instance)
    return _found(instance, config.settings(), output).policy


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _reported(
    instance: PandoraInstance, result: Result, config: SolveOptions, name: str
) -> dict[str, str]:
    """Write the report where one is wanted, and say where."""
    if config.report is None:
        return {}
    from esscher.kit.runs.report import Report  # noqa: PLC0415 - drawing takes seconds to load
    from esscher.pandora.report import add_instance  # noqa: PLC0415

    if config.plays < 1:
        raise ConfigError(f"the report needs plays >= 1, got {config.plays}")
    report = Report(f"Which boxes to open: {name}", f"{len(instance)} boxes")
    add_instance(report, instance, result, unit=config.unit, plays=config.plays, seed=config.seed)
    try:
        report.write(config.report)
    except OSError as error:
        raise DataError(f"cannot write {config.report}: {error}") from error
    return {"report": str(config.report)}
