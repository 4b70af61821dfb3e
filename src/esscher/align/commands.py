"""The `esscher align` commands, as the command line calls them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esscher.align.check import check_target
from esscher.align.demo import (
    DEMO_RATES,
    compare_objectives,
    draw_posterior,
    first_texts,
    plain,
)
from esscher.align.evaluate import evaluate as measure
from esscher.align.fit import fitted_moments
from esscher.align.gold import best_of_n_curve
from esscher.align.modelling import build_target, find_gold, load_prior, read_prompts
from esscher.align.options import (
    CheckOptions,
    CompareOptions,
    DemoOptions,
    EvaluateOptions,
    FitOptions,
    SampleOptions,
)
from esscher.align.report import write_evaluation_report, write_fit_report
from esscher.align.run import Prepared, finish_fit, follow_fit, model_of, prepare
from esscher.align.samplers import sample as draw
from esscher.align.state import Info, State
from esscher.kit.ranks import joined, ranks
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output
from esscher.kit.runs.record import Record
from esscher.kit.runs.seeds import Streams

__all__ = ["check", "compare", "demo", "evaluate", "fit", "sample"]


def demo(config: DemoOptions, output: Output, *, resume: Path | None = None) -> dict[str, Any]:
    """Show collapse and posterior on functions that compile, and say how close each came."""
    options = config.comparison()
    run = _run("demo", config, resume)
    with run:
        result = compare_objectives(options, run, output, DEMO_RATES)
    return _shown(result, output)


def compare(
    config: CompareOptions, output: Output, *, resume: Path | None = None
) -> dict[str, Any]:
    """Fit several objectives to one target at equal draws or seconds and measure them."""
    run = _run("compare", config, resume)
    with run:
        return _shown(compare_objectives(config, run, output), output)


def fit(config: FitOptions, output: Output, *, resume: Path | None = None) -> dict[str, Any]:
    """Train a model towards a target and measure how close it came."""
    with joined() as here:
        if not here.first:
            follow_fit(config)
            raise SystemExit(0)
        prepared = prepare(config, output)
        return _led_fit(config, prepared, output, resume)


def _led_fit(
    config: FitOptions, prepared: Prepared, output: Output, resume: Path | None
) -> dict[str, Any]:
    ranks().gather(None)  # a prior that had to be trained lies in the cache now
    run = _run("fit", config, resume)
    with run, output.progress(config.steps, f"fit {config.objective}") as progress:

        def on_step(done: int, total: int, info: Info, state: State) -> None:
            progress.total = total
            progress.update(
                done - progress.done,
                ESS=f"{100 * info.ess:.0f} %",
                log_Z=state.log_z.estimate(),
                KL_prior=info.kl_prior,
            )

        numbers = finish_fit(config, prepared, run, on_step)
        curve = None
        if prepared.gold is not None and prepared.prompts is None:
            curve = best_of_n_curve(prepared.target, prepared.gold, config.n, seed=config.seed)
        report = write_fit_report(run, config, {**numbers, "best_of_n": curve})
    paths = {"report": str(report), "run": str(run.path)}
    return paths | numbers | ({} if curve is None else {"best_of_n": curve})


def evaluate(config: EvaluateOptions, output: Output) -> dict[str, Any]:
    """Measure how close a model is to a target, and how well it serves as a proposal."""
    prior, known = load_prior(config.prior, output, config.model_options())
    target = fitted_moments(build_target(prior, config), config.seed)
    model = model_of(config.model, prior, config.model_options())
    prompts = read_prompts(config.prompts)
    result = measure(
        model,
        target,
        config.n,
        seed=config.seed,
        floor=config.floor,
        prompts=prompts,
        gold=find_gold(config.gold),
    )
    name = _name_of(config.model)
    samples = {name: first_texts(model, target, config.seed, prompts)}
    sampler = None
    if prompts is None:
        sampler, samples["posterior"] = draw_posterior(target, model, config.seed)
        sampler["proposal"] = name
    objectives = {name: result.to_json()}
    numbers = {"prior": known, "objectives": objectives, "sampler": sampler, "samples": samples}
    run = _run("evaluate", config, None)
    with run:
        report = write_evaluation_report(run, config, numbers)
        run.finish(numbers)
    return _shown({"report": str(report), "run": str(run.path), **numbers}, output)


def _name_of(model: str | None) -> str:
    """What a model is called in the result: the objective that made it, where that is known."""
    if model is None:
        return "prior"
    made = Path(model) / "config.toml"
    return str(Record(Path(model)).config().get("objective", "model")) if made.exists() else "model"


def check(config: CheckOptions, output: Output) -> dict[str, Any]:
    """Say how far a target is from its prior and how it can be drawn from, before any training."""
    prior, known = load_prior(config.prior, output, config.model_options())
    target = fitted_moments(build_target(prior, config), config.seed)
    prompts = read_prompts(config.prompts)
    found = check_target(target, config.n, seed=config.seed, prompts=prompts).to_json()
    if output.json:
        return {"prior": known, **found}
    low, high = found.pop("interval")
    terms = [{"evidence": name, **row} for name, row in found.pop("terms").items()]
    moments = [{"feature": name, **row} for name, row in found.pop("moments").items()]
    found["satisfied between"] = f"{low:.4g} and {high:.4g} (95 %)"
    return {"target": found, "evidence": terms, **({"moments": moments} if moments else {})}


def sample(config: SampleOptions, output: Output) -> dict[str, Any]:
    """Draw texts from a target, or from a model as it is."""
    prior, _ = load_prior(config.prior, output, config.model_options())
    model = model_of(config.model, prior, config.model_options())
    if config.method == "model":
        rng = Streams(config.seed).torch("sample")
        texts: Sequence[Any] = model.items(model.sample(config.n, context=config.prompt, rng=rng).x)
        facts: dict[str, Any] = {}
    else:
        target = fitted_moments(build_target(prior, config), config.seed)
        law = prior if config.model is None else model
        drawn = draw(
            target,
            config.method,
            proposal=law,
            n=config.n,
            seed=config.seed,
            config=config.config(),
            context=config.prompt,
        )
        texts, facts = model.items(drawn.x), plain(drawn.facts)
    _write(texts, config.out, output)
    written = None if config.out is None else str(config.out)
    return {"method": config.method, "n": len(texts), "out": written, **facts}


def _write(texts: Sequence[Any], out: Path | None, output: Output) -> None:
    lines = "".join(json.dumps({"completion": text}, ensure_ascii=False) + "\n" for text in texts)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(lines, encoding="utf-8")
    elif not output.json:
        sys.stdout.write(lines)


def _run(verb: str, config: FitOptions | DemoOptions | EvaluateOptions, resume: Path | None) -> Run:
    if resume is not None:
        return Run.open(resume, config)
    return Run.create(config.runs, "align", verb, config.name, config=config, seed=config.seed)


BRIEF = ("verdict", "kl_target_model", "satisfied", "entropy", "tvd")


def _shown(result: dict[str, Any], output: Output) -> dict[str, Any]:
    """All numbers for a script; for a person the paths and a row per model."""
    if output.json:
        sampler = result["sampler"] and {k: v for k, v in result["sampler"].items() if k != "curve"}
        return {k: v for k, v in result.items() if k != "samples"} | {"sampler": sampler}
    rows = [
        {"model": name, **{key: numbers[key] for key in BRIEF}}
        for name, numbers in result["objectives"].items()
    ]
    return {"models": rows, "run": result["run"], "report": result["report"]}
