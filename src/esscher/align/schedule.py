"""How long a fit goes on, with how many draws a step, at which learning rate."""

from __future__ import annotations

import math

from esscher.align.config import FitConfig
from esscher.align.credit import HASTE, first_followed
from esscher.align.objectives import get_objective
from esscher.align.state import State
from esscher.kit.lm.language_model import LanguageModel

__all__ = ["batch_size", "learning_rate", "planned_steps"]


def planned_steps(policy: LanguageModel, config: FitConfig) -> int:
    """Steps of a fit: the configured number, or what suits the policy."""
    return policy.recipe.steps if config.steps is None else config.steps


def batch_size(policy: LanguageModel, config: FitConfig) -> int:
    """Draws per step: the configured number, or what suits policy and objective."""
    if config.batch is not None:
        return config.batch
    noisy = get_objective(config.objective).noisy
    return policy.recipe.noisy_batch if noisy else policy.recipe.batch


def learning_rate(state: State, config: FitConfig) -> tuple[float, float]:
    """The rate of the next step, and its share of the peak.

    Where tokens are credited the policy waits until the twist knows something.
    """
    steps = planned_steps(state.policy, config)
    late = 0 if state.credit is None else first_followed(steps, batch_size(state.policy, config))
    pace = _pace(state.done - late, steps - late, config.warmup)
    return _peak(state, config, late / steps) * pace, pace


def _peak(state: State, config: FitConfig, waited: float) -> float:
    recipe = state.policy.recipe
    if config.lr is not None:
        return config.lr
    if state.credit is not None:
        return recipe.token_lr * (1 + HASTE * waited)
    return recipe.floored_lr if get_objective(config.objective).needs_floor else recipe.lr


def _pace(done: int, steps: int, warmup: float) -> float:
    """Share of the peak: linear warm-up over a share of the steps, then half a cosine to zero.

    Before step 0 it is 0.
    """
    rising = math.ceil(warmup * steps)
    if done < 0:
        return 0.0
    if done < rising:
        return (done + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (done - rising) / max(1, steps - rising)))
