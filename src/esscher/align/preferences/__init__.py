"""Preferences as evidence: comparisons of texts, a reward learnt from them, or none in between.

    from esscher.align.preferences import fit_preferences, fit_reward_model, read_preferences

`fit_preferences` trains a policy on pairs by any of `PREFERENCE_LOSSES`, whose optimum is the
target only where its entry says so. `fit_reward_model` learns r̂ by maximum likelihood;
`Reward(r̂, beta)` then makes a `Target` that every objective, sampler and evaluation of
`esscher.align` takes.
"""

from esscher.align.preferences.assess import PreferenceFit, assess
from esscher.align.preferences.config import PreferenceConfig, RewardConfig
from esscher.align.preferences.data import Preferences, read_preferences
from esscher.align.preferences.fit import (
    PreferenceResult,
    RewardResult,
    fit_preferences,
    fit_reward_model,
)
from esscher.align.preferences.losses import PREFERENCE_LOSSES, PairBatch
from esscher.align.preferences.pairs import Pairs, Split, encode_pairs
from esscher.align.preferences.reward_model import RewardModel, load_reward_model

__all__ = [
    "PREFERENCE_LOSSES",
    "PairBatch",
    "Pairs",
    "PreferenceConfig",
    "PreferenceFit",
    "PreferenceResult",
    "Preferences",
    "RewardConfig",
    "RewardModel",
    "RewardResult",
    "Split",
    "assess",
    "encode_pairs",
    "fit_preferences",
    "fit_reward_model",
    "load_reward_model",
    "read_preferences",
]
