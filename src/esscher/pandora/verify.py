"""The decision version: a policy's order and backup prove that a threshold can be reached."""

from __future__ import annotations

import math
from dataclasses import dataclass

from esscher.errors import ConfigError
from esscher.pandora.instance import PandoraInstance
from esscher.pandora.policy import TwoPhasePolicy
from esscher.pandora.weitzman import TIE

__all__ = ["Verdict", "verify"]


@dataclass(frozen=True)
class Verdict:
    """What a certificate is worth.

    Attributes:
        value: of the policy, by exact evaluation.
        holds: whether it is at least the threshold, up to a relative 1e-12.
    """

    value: float
    holds: bool


def verify(instance: PandoraInstance, policy: TwoPhasePolicy, threshold: float) -> Verdict:
    """Check in O(nK) time that a policy earns at least `threshold`, trusting nothing but names.

    The certificate is the policy's order and backup; its value is computed anew on `instance`.

    Args:
        instance: the boxes; its grid has K points.
        policy: of this instance, or of one with the same names.
        threshold: in the units of the values.

    Raises:
        ConfigError: if the threshold is NaN, or the certificate does not fit the instance.
    """
    if math.isnan(threshold):
        raise ConfigError("the threshold must be a number, got nan")
    value = TwoPhasePolicy(instance, policy.order, policy.backup).value
    return Verdict(value, value >= threshold - TIE * max(abs(threshold), abs(value)))
