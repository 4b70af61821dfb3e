"""One fit from its options to its numbers, in a run folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from esscher.align.evaluate import evaluate, evaluation_reference
from esscher.align.fit import FitResult, Watcher, fit, fitted_moments
from esscher.align.model_flags import starting_point
from esscher.align.modelling import build_target, find_gold, load_prior, read_prompts
from esscher.align.options import FitOptions
from esscher.align.reference import Reference
from esscher.align.shared import SharedDraws
from esscher.align.state import Info, State
from esscher.align.watch import make_watcher
from esscher.core.batch import BatchFunction
from esscher.core.target import Target
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.loading import load_language_model
from esscher.kit.lm.model_options import AS_STORED, ModelOptions
from esscher.kit.ranks import ranks
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output
from esscher.kit.runs.seeds import Streams

__all__ = ["MODEL", "Prepared", "finish_fit", "follow_fit", "model_of", "prepare", "samples_of"]

MODEL = "model"
"""Folder in a fit's run that holds the fitted model."""
WATCH_DRAWS = 250
SAVE_EVERY = 10
SHOWN = 12
"""Texts kept in a run's samples.jsonl."""

OnStep = Callable[[int, int, Info, State], None]


class Prepared(NamedTuple):
    """All that can fail for a reason in the options, made before there is a run folder.

    Attributes:
        prior: the model.
        policy: where training starts: the prior, or the prior with adapters.
        known: what is known about it.
        target: prior and evidence, moments fitted.
        prompts: or None.
        watch: measures the policy on its way.
        gold: second judge, or None.
    """

    prior: LanguageModel
    policy: LanguageModel
    known: dict[str, Any]
    target: Target
    prompts: list[str] | None
    watch: Watcher
    gold: BatchFunction | None


def prepare(options: FitOptions, output: Output) -> Prepared:
    """Read the options' names and look at the target.

    Raises:
        ConfigError, DataError, CheckpointError: if a name leads nowhere.
        InfeasibleError: if the target cannot be reached from the prior.
    """
    options.config()
    prompts = read_prompts(options.prompts)
    prior, known = load_prior(options.prior, output, options.model_options())
    target = fitted_moments(build_target(prior, options), options.seed)
    gold = find_gold(options.gold)
    watch = make_watcher(
        target, n=WATCH_DRAWS, seed=options.seed, floor=options.floor, prompts=prompts, gold=gold
    )
    return Prepared(
        prior,
        starting_point(prior, options, seed=options.seed),
        known,
        target,
        prompts,
        watch,
        gold,
    )


def finish_fit(
    options: FitOptions,
    prepared: Prepared,
    run: Run,
    on_step: OnStep | None = None,
    shared: SharedDraws | None = None,
) -> dict[str, Any]:
    """Train, evaluate and write everything into the run; continues where the run was stopped.

    Returns:
        The evaluation as plain numbers, with what the prior is.
    """
    result = fit(
        prepared.policy,
        prepared.target,
        config=options.config(),
        prompts=prepared.prompts,
        run=run,
        save_every=SAVE_EVERY,
        watch=prepared.watch,
        on_step=on_step,
        shared=shared,
    )
    result.policy.save(run.path / MODEL)
    measured = _conclude(options, prepared, run, result, shared)
    numbers = {"objective": options.objective, "prior": prepared.known, **measured}
    run.finish(numbers)
    return numbers


def follow_fit(options: FitOptions) -> None:
    """The part in a fit of a process that is not the first: it trains, and leaves no trace."""
    ranks().gather(None)
    prepared = prepare(options, Output(quiet=True))
    fit(prepared.policy, prepared.target, config=options.config(), prompts=prepared.prompts)


def _conclude(
    options: FitOptions,
    prepared: Prepared,
    run: Run,
    result: FitResult,
    shared: SharedDraws | None,
) -> dict[str, Any]:
    target, prompts = prepared.target, prepared.prompts
    n, seed = options.n, options.seed
    reference: Reference | None = None
    if shared is not None and prompts is None:
        draw = partial(evaluation_reference, target, n, seed=seed)
        reference = shared.get("evaluation", Reference, cast("Callable[[], Reference]", draw))
    evaluation = evaluate(
        result.policy,
        target,
        n,
        seed=seed,
        floor=options.floor,
        prompts=prompts,
        reference=reference,
        gold=prepared.gold,
    )
    texts = samples_of(result.policy, target, SHOWN, options.seed, prompts)
    last = result.history[-1]["step"] if result.history else 0
    for row in texts:
        run.sample(last, **row)
    return {
        **evaluation.to_json(),
        "log_z_training": None if result.log_z is None else result.log_z.to_json(),
        "steps": last,
        "stopped": result.stopped,
        "alarm": result.alarm,
        "evidence_power": result.target.evidence_power,
    }


def samples_of(
    model: LanguageModel, target: Target, n: int, seed: int, prompts: list[str] | None = None
) -> list[dict[str, Any]]:
    """N draws of a model as {"text", "allowed"} rows, with their prompts where there are any."""
    rng = Streams(seed).torch("shown")
    context = None if prompts is None else [prompts[i % len(prompts)] for i in range(n)]
    x = model.sample(n, context=context, rng=rng).x
    allowed = (target.log_weight(x, context) > float("-inf")).tolist()
    rows = zip(model.items(x), allowed, context or [""] * n, strict=True)
    return [
        {"text": text, "allowed": fine} | ({"prompt": prompt} if prompt else {})
        for text, fine, prompt in rows
    ]


def model_of(
    path: str | None, prior: LanguageModel, options: ModelOptions = AS_STORED
) -> LanguageModel:
    """The model in a folder, on the hub or in a fit's run; the prior for None."""
    if path is None:
        return prior
    own = Path(path) / MODEL
    return load_language_model(own if own.is_dir() else path, options)
