"""`esscher offline ...`, as the command line calls it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from esscher.core.estimate import Estimate
from esscher.errors import ConfigError
from esscher.kit.rl.evaluate import last_k_mean, seed_estimate
from esscher.kit.rl.policy import ActorPolicy, load_policy, save_policy
from esscher.kit.rl.rollout import rollout
from esscher.kit.runs.config import load_toml
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output
from esscher.offline.collect import collect as collect_data
from esscher.offline.collect import env_of
from esscher.offline.config import OfflineConfig, configuration
from esscher.offline.coverage import coverage
from esscher.offline.data import MixedDataset
from esscher.offline.demo import run_demo
from esscher.offline.diagnose import StartValue, start_value
from esscher.offline.options import (
    CollectOptions,
    CompareOptions,
    DemoOptions,
    EvaluateOptions,
    FitOptions,
    InspectOptions,
    MixOptions,
)
from esscher.offline.prepare import prepare
from esscher.offline.report import compare_report, fit_report, inspect_report
from esscher.offline.training import Evaluate, FitResult
from esscher.offline.training import fit as fit_policy

__all__ = ["collect", "compare", "demo", "evaluate", "fit", "inspect", "mix"]

POLICY = "policy"
POLICIES = "policies"


def demo(config: DemoOptions, output: Output) -> dict[str, Any]:
    """See cloning fail between two policies, and the reverse KL put it right."""
    run = Run.create(config.runs, "offline", "demo", config.name, config=config, seed=config.seed)
    with run:
        return run_demo(config, run, output)


def collect(config: CollectOptions, output: Output) -> dict[str, Any]:
    """Train behaviour policies of several levels and write what they do."""
    name = config.dataset or f"{config.env.lower().replace('-', '')}-v0"
    folder = config.root / name
    if (folder / "data").exists():
        raise ConfigError(f"{folder} exists; choose another name with --dataset")
    keep = folder / POLICIES
    with output.progress(config.train_steps, "behaviour policy") as progress:
        dataset = collect_data(
            config,
            keep,
            say=output.say,
            on_step=lambda done, seen: progress.update(done - progress.done, **seen),
        )
    told = _told(dataset, dataset.save(config.root, name))
    return told | ({"behaviour_policies": str(keep)} if keep.exists() else {})


def mix(*data: Path, config: MixOptions) -> dict[str, Any]:
    """Put data sets together, with who did what kept."""
    parts = [_only(MixedDataset.load(path), config.policies) for path in data]
    amounts = _amounts(config.ratio, len(parts))
    dataset = MixedDataset.mix(
        list(zip(parts, amounts, strict=True)), by=config.by, seed=config.seed
    )
    return _told(dataset, dataset.save(config.root, config.dataset))


def inspect(data: Path, /, *, config: InspectOptions, output: Output) -> dict[str, Any]:
    """Say who did what, where the data are narrow, and how far a policy is outside them."""
    dataset = MixedDataset.load(data)
    policy = None if config.policy is None else load_policy(config.policy / POLICY)
    output.say(f"fitting the behaviour density to {len(dataset)} transitions")
    settings = configuration("td3_rkl", density__steps=config.density_steps)
    prepared = prepare(settings, dataset, config.seed)
    assert prepared.density is not None
    assert prepared.report is not None
    run = Run.create(
        config.runs, "offline", "inspect", config.name, config=config, seed=config.seed
    )
    with run:
        found = coverage(dataset, prepared, prepared.density, seed=config.seed, policy=policy)
        found["density"] = prepared.report._asdict()
        report = inspect_report(run, dataset, prepared, found)
        run.finish(found)
    return {"report": str(report), "run": str(run.path), **found}


def fit(
    data: Path | None = None, /, *, config: FitOptions, output: Output, resume: Path | None = None
) -> dict[str, Any]:
    """Learn a policy from a data set."""
    options = config if data is None else replace(config, data=data)
    dataset, settings, env = _read(options)
    if resume is None:
        run = Run.create(
            options.runs, "offline", "fit", options.name, config=options, seed=options.seed
        )
    else:
        run = Run.open(resume, options)
    with run:
        result = _fitted(options, settings, dataset, env, seed=options.seed, output=output, run=run)
        save_policy(result.policy, run.path / POLICY)
        values = _values(options, result, env, options.seed)
        report = fit_report(run, dataset, result, values)
        numbers = _numbers(options, result, values)
        run.finish(numbers)
    return {"report": str(report), "run": str(run.path), **numbers}


def evaluate(run: Path, /, *, config: EvaluateOptions) -> dict[str, Any]:
    """Measure a fitted policy in its environment."""
    policy = load_policy(run / POLICY)
    env = config.env
    if env is None:
        options = load_toml(run / "config.toml")
        env = options.get("env") or MixedDataset.load(Path(str(options["data"]))).env
    return {"env": env, "return": _returns(policy, str(env), config.episodes, config.seed)}


def compare(
    data: Path | None = None, /, *, config: CompareOptions, output: Output
) -> dict[str, Any]:
    """Fit several learners to one data set, over seeds."""
    options = config if data is None else replace(config, data=data)
    fits: dict[str, list[FitResult]] = {}
    checked = {name: _read(replace(options, method=name)) for name in options.methods}
    run = Run.create(
        options.runs, "offline", "compare", options.name, config=options, seed=options.seed
    )
    with run:
        for name, (dataset, settings, env) in checked.items():
            for seed in range(options.seed, options.seed + options.seeds):
                output.say(f"{name}, seed {seed}")
                result = _fitted(options, settings, dataset, env, seed=seed, output=output)
                fits.setdefault(name, []).append(result)
        told = {
            name: {"return": seed_estimate([_last(r) for r in results])}
            for name, results in fits.items()
            if "return" in results[0].history[-1]
        }
        first, settings, env = next(iter(checked.values()))
        values = {
            name: [v for seed, r in enumerate(results, options.seed)
                   if (v := _values(options, r, env, seed)) is not None]
            for name, results in fits.items()
        }  # fmt: skip
        values = {name: found for name, found in values.items() if found}
        report = compare_report(run, first, fits, told, values)
        run.finish({"methods": told, "policies": first.provenance()})
    return {"report": str(report), "run": str(run.path), "methods": told}


def _read(options: FitOptions) -> tuple[MixedDataset, OfflineConfig, str]:
    """Data, settings and environment ("" for none): what can fail before there is a run."""
    if options.data is None:
        raise ConfigError("name a data set: esscher offline fit DATA")
    changes: dict[str, Any] = {
        "steps": options.steps, "td3__width": options.width, "td3__batch": options.batch,
        "density__steps": options.density_steps,
    }  # fmt: skip
    given = {"alpha": options.alpha, "weight": options.weight, "density__kind": options.density}
    changes |= {name: value for name, value in given.items() if value is not None}
    settings = configuration(options.method, **changes)
    dataset = MixedDataset.load(options.data)
    env = dataset.env if options.env is None else options.env
    env = "" if env == "none" else env
    if env:
        env_of(env, 1, options.seed)
    return dataset, settings, env


def _fitted(
    options: FitOptions,
    settings: OfflineConfig,
    dataset: MixedDataset,
    env: str,
    *,
    seed: int,
    output: Output,
    run: Run | None = None,
) -> FitResult:
    every = max(1, options.steps // options.evaluations)
    measure: Evaluate | None = None
    if env:

        def measure(policy: ActorPolicy) -> dict[str, Any]:
            return {"return": _returns(policy, env, options.episodes, seed)}

    with output.progress(options.steps, "fit") as progress:
        return fit_policy(
            settings,
            dataset,
            seed=seed,
            run=run,
            evaluate=measure,
            every=every,
            on_step=lambda done, seen: progress.update(done - progress.done, q=seen.get("q")),
        )


def _returns(policy: ActorPolicy, env: str, episodes: int, seed: int) -> Estimate:
    rows = rollout(env_of(env, min(10, episodes), seed), policy, episodes)
    return seed_estimate(rows.returns()[0])


def _last(result: FitResult) -> float:
    return last_k_mean([row["return"]["mean"] for row in result.history], 3)


def _values(options: FitOptions, result: FitResult, env: str, seed: int) -> StartValue | None:
    if not env:
        return None
    gamma = configuration(options.method).td3.gamma
    copies = env_of(env, min(10, options.episodes), seed)
    return start_value(result, copies, gamma, options.episodes)


def _numbers(options: FitOptions, result: FitResult, values: StartValue | None) -> dict[str, Any]:
    report = result.data.report
    return {
        "method": options.method,
        "steps": result.learner.done,
        "last": {k: v for k, v in result.history[-1].items() if k != "step"},
        **({} if values is None else {"q_start": values.promised, "value_start": values.kept}),
        **({} if report is None else {"density": report._asdict()}),
    }


def _only(dataset: MixedDataset, policies: tuple[str, ...]) -> MixedDataset:
    wanted = [i for i, name in enumerate(dataset.policies) if not policies or name in policies]
    rows = dataset.transitions
    mask = [identity in wanted for identity in rows.policy_id.tolist()]
    if not any(mask):
        raise ConfigError(f"no policy of {list(policies)} among {list(dataset.policies)}")
    import numpy as np  # noqa: PLC0415 - one mask

    return replace(dataset, transitions=rows.take(np.array(mask)))


def _amounts(ratio: str, count: int) -> list[int | float]:
    if count == 0:
        raise ConfigError("name the data sets to mix: esscher offline mix A B")
    if not ratio:
        return [1.0] * count
    parts = ratio.split(":")
    try:
        found = [int(p) if p.isdecimal() and int(p) > 1 else float(p) for p in parts]
    except ValueError:
        raise ConfigError(f"a ratio looks like 0.5:0.5 or 3000:1000, got {ratio!r}") from None
    if len(found) != count:
        raise ConfigError(f"{count} data sets need as many parts of a ratio, got {ratio!r}")
    return found


def _told(dataset: MixedDataset, path: Path) -> dict[str, Any]:
    return {
        "dataset": str(path),
        "transitions": len(dataset),
        "env": dataset.env,
        "policies": dataset.provenance(),
    }
