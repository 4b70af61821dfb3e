"""Steering KL(π‖p0) by the power of the evidence, as adaptive β does."""

from __future__ import annotations

from esscher.core.target import Target

__all__ = ["GAIN", "steered", "steered_target"]

GAIN = 0.03
"""Relative change of β per step and unit of the clipped relative error: 0.1 makes β swing around
its mean by a factor of three, because the policy follows the target tens of steps later."""
FURTHEST = 0.2
"""Largest relative error that counts."""


def steered(power: float, kl: float, wanted: float) -> float:
    """The power after a step that saw KL(π‖p0) = `kl`: smaller where that is too large.

    With β = 1 / power this is β (1 + `GAIN` clip(KL / wanted - 1, ±0.2)).

    Args:
        power: of the evidence, positive.
        kl: nats, as the step's draws say.
        wanted: nats, positive.

    Reference: Ziegler et al. (2019), section 2.2.
    """
    error = max(-FURTHEST, min(FURTHEST, kl / wanted - 1.0))
    return power / (1.0 + GAIN * error)


def steered_target(target: Target, power: float) -> Target:
    """The target with its evidence to a further power."""
    if power == 1.0:
        return target
    return target.with_evidence_power(target.evidence_power * power)
