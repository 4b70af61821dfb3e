"""One fit to preferences from its options to its numbers, in a run folder."""

from __future__ import annotations

from typing import Any, NamedTuple

from esscher.align.model_flags import starting_point
from esscher.align.modelling import load_prior
from esscher.align.preferences.config import PreferenceConfig, RewardConfig
from esscher.align.preferences.data import read_preferences
from esscher.align.preferences.fit import (
    PreferenceResult,
    RewardResult,
    fit_preferences,
    fit_reward_model,
)
from esscher.align.preferences.loop import OnStep
from esscher.align.preferences.losses import PREFERENCE_LOSSES
from esscher.align.preferences.options import PreferOptions
from esscher.align.preferences.pairs import Split, prepare_pairs
from esscher.align.run import MODEL
from esscher.errors import ConfigError
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output
from esscher.kit.runs.seeds import Streams

__all__ = ["OPTIMUM_OF_REWARD", "PreparedPairs", "finish_preferences", "prepare_preferences"]

SAVE_EVERY = 10
SHOWN = 12
"""Texts kept in a run's samples.jsonl."""
OPTIMUM_OF_REWARD = (
    "the reward itself, up to a constant for each prompt; Reward(model, beta) makes it evidence"
)


class PreparedPairs(NamedTuple):
    """All that can fail for a reason in the options, made before there is a run folder.

    Attributes:
        config: training settings.
        prior: the model.
        policy: where training starts: the prior, or the prior with adapters.
        known: what is known about it.
        split: the pairs, encoded, split and scored.
    """

    config: PreferenceConfig | RewardConfig
    prior: LanguageModel
    policy: LanguageModel
    known: dict[str, Any]
    split: Split


def prepare_preferences(options: PreferOptions, output: Output) -> PreparedPairs:
    """Read the pairs and the prior, and look whether they fit each other.

    Raises:
        ConfigError, DataError, CheckpointError: if a setting is out of range, or a name leads
            nowhere, or the pairs cannot be used.
    """
    config = options.config()
    if options.pairs is None:
        raise ConfigError("no preference pairs are given; name a JSON Lines file with them")
    preferences = read_preferences(options.pairs)
    prior, known = load_prior(options.prior, output, options.model_options())
    policy = starting_point(prior, options, seed=options.seed)
    split = prepare_pairs(prior, preferences, config)
    return PreparedPairs(config, prior, policy, known, split)


def finish_preferences(
    options: PreferOptions, prepared: PreparedPairs, run: Run, on_step: OnStep | None = None
) -> dict[str, Any]:
    """Train, judge and write everything into the run; continues where the run was stopped.

    Returns:
        Plain numbers, with what the prior is.
    """
    config, prior, policy, known, split = prepared
    result: PreferenceResult | RewardResult
    own: dict[str, Any]
    if isinstance(config, RewardConfig):
        result = fit_reward_model(
            prior, split, config=config, run=run, save_every=SAVE_EVERY, on_step=on_step
        )
        result.model.save(run.path / MODEL)
        own = {"minimises": "KL(P(x≻y) ‖ σ(r̂-r̂'))", "optimum": OPTIMUM_OF_REWARD}
    else:
        result = fit_preferences(
            prior,
            split,
            config=config,
            policy=policy,
            run=run,
            save_every=SAVE_EVERY,
            on_step=on_step,
        )
        result.policy.save(run.path / MODEL)
        _keep_texts(result, split, run, options.seed)
        loss = PREFERENCE_LOSSES[config.objective]
        own = {"minimises": loss.minimises, "optimum": loss.note}
        own |= {"beta": config.beta, "kl_prior": result.kl_prior.to_json()}
    numbers = {"method": options.method, **own, **_facts(result, split), "prior": known}
    run.finish(numbers)
    return numbers


def _facts(result: PreferenceResult | RewardResult, split: Split) -> dict[str, Any]:
    return {
        **result.fit.to_json(),
        "pairs": {"train": len(split.train), "held_out": len(split.held_out)},
        "step": result.step,
        "steps": result.history[-1]["step"],
        "stopped": result.stopped,
    }


def _keep_texts(result: PreferenceResult, split: Split, run: Run, seed: int) -> None:
    """The policy's first draws, unselected, continuing the held-out prompts where there are any."""
    prompts = split.held_out.context
    context = None if prompts is None else [prompts[i % len(prompts)] for i in range(SHOWN)]
    x = result.policy.sample(SHOWN, context=context, rng=Streams(seed).torch("shown")).x
    for prompt, text in zip(context or [""] * SHOWN, result.policy.items(x), strict=True):
        run.sample(result.history[-1]["step"], text=text, **({"prompt": prompt} if prompt else {}))
