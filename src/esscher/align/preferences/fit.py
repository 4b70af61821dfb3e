"""Fit a policy to preference pairs, or a reward model that can serve as evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from esscher.align.preferences.assess import PreferenceFit, assess, favourites
from esscher.align.preferences.config import PreferenceConfig, RewardConfig
from esscher.align.preferences.data import Preferences
from esscher.align.preferences.loop import OnStep, held_out_scores, train
from esscher.align.preferences.losses import PREFERENCE_LOSSES, PairBatch, cross_entropy
from esscher.align.preferences.pairs import Pairs, Split, prepare_pairs, weighted_mean
from esscher.align.preferences.reward_model import RewardModel
from esscher.align.preferences.train import Task
from esscher.core.estimate import Estimate, from_samples
from esscher.errors import ConfigError
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.runs.folder import Run
from esscher.kit.runs.seeds import Streams

__all__ = ["PreferenceResult", "RewardResult", "fit_preferences", "fit_reward_model"]


@dataclass(frozen=True)
class PreferenceResult:
    """What `fit_preferences` found.

    Attributes:
        policy: the model with the lowest held-out loss; the one given in is unchanged.
        fit: its implicit rewards against the held-out labels; of ipo only the accuracy, as its
            margins are no log-odds.
        kl_prior: its KL(π‖p0), nats.
        history: one row per step: numbers, and estimates as {"mean", "se", "n"}.
        step: the step it was the model of.
        stopped: why training ended before its last step; None if it did not.
    """

    policy: LanguageModel
    fit: PreferenceFit
    kl_prior: Estimate
    history: list[dict[str, Any]]
    step: int
    stopped: str | None


@dataclass(frozen=True)
class RewardResult:
    """What `fit_reward_model` found.

    Attributes:
        model: the reward model with the lowest held-out loss.
        fit: its predictions against the held-out labels.
        history: one row per step: numbers, and estimates as {"mean", "se", "n"}.
        step: the step it was the model of.
        stopped: why training ended before its last step; None if it did not.
    """

    model: RewardModel
    fit: PreferenceFit
    history: list[dict[str, Any]]
    step: int
    stopped: str | None


def fit_preferences(
    prior: LanguageModel,
    preferences: Preferences | Split,
    objective: str = "dpo",
    *,
    beta: float = 0.1,
    config: PreferenceConfig | None = None,
    policy: LanguageModel | None = None,
    run: Run | None = None,
    save_every: int = 25,
    on_step: OnStep | None = None,
) -> PreferenceResult:
    """Train a copy of the prior on comparisons, without a reward model in between.

    Args:
        prior: what the policy is measured against, and where training starts by default.
        preferences: comparisons, or pairs of the prior's own samples, already split.
        objective: key of `PREFERENCE_LOSSES`.
        beta: temperature of the target, in nats of log-odds per nat.
        config: all settings at once, instead of the two above.
        policy: where training starts, such as the prior with adapters; unchanged.
        run: where metrics and checkpoints go; a run that has a checkpoint is continued.
        save_every: steps between checkpoints.
        on_step: called with (done, total, history row) after every step.

    Raises:
        ConfigError: if a setting is out of range, or texts cannot be encoded for such a prior.
        DataError: if a text or prompt is too long, or too few pairs are held out.
        NumericsError: if the loss or its gradient is not finite.
    """
    if config is None:
        config = PreferenceConfig(objective=objective, beta=beta)
    split = _split(prior, preferences, config)
    policy = (prior if policy is None else policy).clone()
    task = _policy_task(policy, config)
    measure = partial(_measure, policy=policy, prior=prior, split=split, config=config)
    trained = train(task, split, config, measure, run=run, save_every=save_every, on_step=on_step)
    chosen, rejected = held_out_scores(task, split)
    margins = _margins(config, chosen, rejected, split.held_out)
    sound = PREFERENCE_LOSSES[config.objective].probabilistic
    fit = assess(margins, split.held_out.label, seed=config.seed, probabilistic=sound)
    kl = _kl(policy, prior, split, config, trained.step)
    return PreferenceResult(policy, fit, kl, *trained)


def fit_reward_model(
    prior: LanguageModel,
    preferences: Preferences | Split,
    *,
    config: RewardConfig | None = None,
    run: Run | None = None,
    save_every: int = 25,
    on_step: OnStep | None = None,
) -> RewardResult:
    """Maximum likelihood of a Bradley-Terry reward on a copy of the prior's network.

    The likelihood fixes rewards only up to a constant for each prompt, and not at all where pairs
    can be separated: `l2` keeps them finite, and afterwards the mean over the training texts is
    made 0.

    Args:
        prior: the law whose texts are to be rewarded; its network is where training starts.
        preferences: comparisons, or pairs of the prior's own samples, already split.
        config: settings.
        run: where metrics and checkpoints go; a run that has a checkpoint is continued.
        save_every: steps between checkpoints.
        on_step: called with (done, total, history row) after every step.

    Raises:
        ConfigError, DataError, NumericsError: as `fit_preferences` does.

    Reference: Bradley and Terry (1952); Christiano et al. (2017) for a network.
    """
    if config is None:
        config = RewardConfig()
    split = _split(prior, preferences, config)
    model = RewardModel(prior)
    task = _reward_task(model, config)

    def measure(done: int, chosen: Tensor, rejected: Tensor) -> Mapping[str, Estimate]:
        del done
        return _agreement(chosen - rejected, split.held_out)

    trained = train(task, split, config, measure, run=run, save_every=save_every, on_step=on_step)
    x, context = split.train.both()
    model.centre = weighted_mean(model.score(x, context), split.train.weight.repeat(2)).mean
    chosen, rejected = held_out_scores(task, split)
    fit = assess(chosen - rejected, split.held_out.label, seed=config.seed)
    return RewardResult(model, fit, *trained)


def _split(
    prior: LanguageModel, given: Preferences | Split, config: PreferenceConfig | RewardConfig
) -> Split:
    """The pairs, scored under the prior."""
    if isinstance(given, Preferences):
        return prepare_pairs(prior, given, config)
    return Split(*(p.scored(prior) if p.log_p0 is None else p for p in given))


def _policy_task(policy: LanguageModel, config: PreferenceConfig) -> Task:
    chosen_loss = PREFERENCE_LOSSES[config.objective]

    def losses(chosen: Tensor, rejected: Tensor, pairs: Pairs) -> Tensor:
        return chosen_loss.loss(_batch(chosen, rejected, pairs), **config.settings())

    lr = policy.recipe.lr if config.lr is None else config.lr
    return Task(policy.module(), policy.log_prob_chunks, policy.graph_bytes, losses, lr)


def _reward_task(model: RewardModel, config: RewardConfig) -> Task:
    def losses(chosen: Tensor, rejected: Tensor, pairs: Pairs) -> Tensor:
        size = 0.5 * (chosen**2 + rejected**2)
        return cross_entropy(chosen - rejected, pairs.label) + config.l2 * size

    lr = model.law.recipe.token_lr if config.lr is None else config.lr
    return Task(model.module(), model.chunks, model.law.graph_bytes, losses, lr)


def _batch(chosen: Tensor, rejected: Tensor, pairs: Pairs) -> PairBatch:
    if pairs.log_p0 is None:
        raise ConfigError("the pairs have no log-probabilities under the prior; use Pairs.scored")
    return PairBatch(chosen, rejected, pairs.log_p0[0], pairs.log_p0[1], pairs.label)


def _margins(config: PreferenceConfig, chosen: Tensor, rejected: Tensor, pairs: Pairs) -> Tensor:
    """Implicit reward differences [N]."""
    margin = PREFERENCE_LOSSES[config.objective].margin
    return margin(_batch(chosen, rejected, pairs), **config.settings())


def _measure(
    done: int,
    chosen: Tensor,
    rejected: Tensor,
    *,
    policy: LanguageModel,
    prior: LanguageModel,
    split: Split,
    config: PreferenceConfig,
) -> Mapping[str, Estimate]:
    margins = _margins(config, chosen, rejected, split.held_out)
    kl = _kl(policy, prior, split, config, done)
    return _agreement(margins, split.held_out) | {"kl_prior": kl}


def _agreement(margins: Tensor, pairs: Pairs) -> dict[str, Estimate]:
    """How often, and by how much, held-out pairs are told apart the right way round."""
    return {
        "held_out_accuracy": weighted_mean(favourites(margins, pairs.label)[1], pairs.weight),
        "held_out_margin": weighted_mean((2 * pairs.label - 1) * margins, pairs.weight),
    }


def _kl(
    policy: LanguageModel, prior: LanguageModel, split: Split, config: PreferenceConfig, done: int
) -> Estimate:
    """KL(π‖p0) on draws of the policy, in contexts of the training pairs."""
    rng = Streams(config.seed).torch("kl", done)
    context = split.train.context
    if context is not None:
        picked = torch.randint(len(context), (config.draws,), generator=rng)
        context = [context[i] for i in picked.tolist()]
    x, log_pi = policy.sample(config.draws, context=context, rng=rng)
    return from_samples(log_pi - prior.log_prob(x, context=context), unit="nats")
