"""The main job on a real task that needs no download: functions that compile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from esscher.align.compare import FITS, fit_all, fit_folder, jobs_of
from esscher.align.evaluate import evaluate
from esscher.align.fit import fitted_moments
from esscher.align.gold import best_of_n_curve
from esscher.align.modelling import build_target, find_gold, load_prior, read_prompts
from esscher.align.objectives import get_objective
from esscher.align.options import CompareOptions
from esscher.align.report import write_report
from esscher.align.run import MODEL, samples_of
from esscher.align.samplers import sample
from esscher.core.estimate import Estimate
from esscher.core.target import Target
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.loading import load_language_model
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output

__all__ = ["DEMO_RATES", "closest", "compare_objectives", "draw_posterior", "first_texts", "plain"]

DEMO_RATES = {"rl": 5e-4}
"""Plain RL gets the rate at which it shows its optimum within the demo; the rate that suits the
others only delays it."""
SHOWN = 8
POSTERIOR_DRAWS = 256
POSTERIOR = "posterior (quasi-rejection)"


def compare_objectives(
    options: CompareOptions, run: Run, output: Output, rates: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Fit every objective, measure all on the same terms, draw from the posterior, report.

    Returns:
        {"report", "run", "prior", "objectives", "sampler"}, as the command prints it.
    """
    prior, known = load_prior(options.prior, output, options.model_options())
    jobs = jobs_of(options, run, rates)
    results = fit_all(jobs, options.scale, output)
    # The scale is that of the fits; what is left to do here runs here.
    target = fitted_moments(build_target(prior, replace(options, scale="serial")), options.seed)
    prompts = read_prompts(options.prompts)
    output.say("measuring the prior and drawing from the posterior")
    gold = find_gold(options.gold)
    start = evaluate(
        prior, target, options.n, seed=options.seed, floor=options.floor, prompts=prompts, gold=gold
    ).to_json()
    curve = None
    if gold is not None and prompts is None:
        curve = best_of_n_curve(target, gold, options.n, seed=options.seed)
    best = closest(results)
    proposal = _model(run, best) if best else prior
    columns = {"prior": first_texts(prior, target, options.seed, prompts)}
    for objective in results:
        columns[objective] = first_texts(_model(run, objective), target, options.seed, prompts)
    sampler = None
    if prompts is None:
        sampler, columns[POSTERIOR] = draw_posterior(target, proposal, options.seed)
        sampler["proposal"] = best or "prior"
    numbers = {
        "prior": {**known, **start},
        "objectives": results,
        "sampler": sampler,
        "samples": columns,
        **({} if curve is None else {"best_of_n": curve}),
    }
    report = write_report(run, options, numbers)
    run.finish(numbers)
    return {"report": str(report), "run": str(run.path), **numbers}


def closest(results: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The objective with the lowest KL(p*‖π) among those that approximate the target."""
    known = [
        (result["kl_target_model"]["mean"], name)
        for name, result in results.items()
        if get_objective(name).minimises is not None
        and result["kl_target_model"]["mean"] is not None
    ]
    return min(known)[1] if known else None


def _model(run: Run, objective: str) -> LanguageModel:
    folder = fit_folder(run.path / FITS / objective)
    return load_language_model(cast("Path", folder) / MODEL)


def first_texts(
    model: LanguageModel, target: Target, seed: int, prompts: list[str] | None
) -> list[str]:
    """The first draws of a model, prompts included, unselected."""
    rows = samples_of(model, target, SHOWN, seed, prompts)
    return [f"{row.get('prompt', '')}{row['text']}" for row in rows]


def plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a sampler as JSON has them."""
    return {k: v.to_json() if isinstance(v, Estimate) else v for k, v in facts.items()}


def draw_posterior(
    target: Target, proposal: LanguageModel, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """Draw from the target through a proposal: how well that goes, and the first texts."""
    drawn = sample(target, "quasi_rejection", proposal=proposal, n=POSTERIOR_DRAWS, seed=seed)
    sampler = {
        **plain(drawn.facts),
        "curve": [
            {"log_bound": r.log_bound, "acceptance": r.acceptance.mean, "tvd": r.tvd.mean}
            for r in drawn.curve
        ],
    }
    return sampler, [str(text) for text in proposal.items(drawn.x)][:SHOWN]
