"""Learnt twists: what a prefix is worth under the evidence."""

from esscher.align.twists.learn import (
    TwistConfig,
    TwistInfo,
    TwistState,
    learn_twist,
    open_prior,
    twist_init,
    twist_step,
)
from esscher.align.twists.losses import TWIST_LOSSES, TwistBatch

__all__ = [
    "TWIST_LOSSES",
    "TwistBatch",
    "TwistConfig",
    "TwistInfo",
    "TwistState",
    "learn_twist",
    "open_prior",
    "twist_init",
    "twist_step",
]
