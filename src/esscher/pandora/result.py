"""What a solver found, and how far from the optimum it can be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esscher.pandora.policy import TwoPhasePolicy

__all__ = ["Result", "relative_gap"]

TINY = 1e-300


def relative_gap(value: float, upper_bound: float) -> float:
    """(upper_bound - value) / |upper_bound|, and 0 where the bound is not above the value."""
    return max(upper_bound - value, 0.0) / max(abs(upper_bound), TINY)


@dataclass(frozen=True)
class Result:
    """A policy, its value and a bound on every policy's value, in the units of the instance.

    Attributes:
        value: of `policy`, by exact evaluation; -inf never.
        upper_bound: no policy is worth more.
        gap: (upper_bound - value) / |upper_bound|. It is relative to the bound, so it changes
            with the zero of the values.
        certified: whether the gap is at most the `eps` asked for, up to rounding of 1e-12.
        method: the algorithm that found it.
        policy: what to do, to be asked step by step; its order and backup are the certificate.
        weitzman: the value of the best policy that opens every box it takes.
        committing: the value of the best policy that decides beforehand, box by box, either
            never to take it unseen or never to open it.
        seconds: wall-clock.
        work: what the method counts: sets, states or nodes.
        note: one sentence on what the result rests on or why it is not certified.
    """

    value: float
    upper_bound: float
    gap: float
    certified: bool
    method: str
    policy: TwoPhasePolicy
    weitzman: float
    committing: float
    seconds: float
    work: int
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON; the policy as `order`, `backup`, `thresholds`.

        The threshold -inf, after which the policy always switches, is written as null.
        """
        return {
            "value": self.value,
            "upper_bound": self.upper_bound,
            "gap": self.gap,
            "certified": self.certified,
            "method": self.method,
            "order": list(self.policy.order),
            "backup": self.policy.backup,
            "thresholds": [t if math.isfinite(t) else None for t in self.policy.thresholds],
            "weitzman": self.weitzman,
            "committing": self.committing,
            "seconds": self.seconds,
            "work": self.work,
            "note": self.note,
        }
