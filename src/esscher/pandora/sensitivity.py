"""What a change of a box's cost is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from esscher.errors import ConfigError
from esscher.pandora.instance import PandoraInstance
from esscher.pandora.occupancy import visits
from esscher.pandora.policy import TwoPhasePolicy
from esscher.pandora.solve import solve

__all__ = ["Cheaper", "cheaper", "cost_sensitivity"]


def cost_sensitivity(policy: TwoPhasePolicy) -> dict[str, float]:
    """Derivative of the optimal value in each box's cost, by name: -P(the box is opened).

    The value is the largest of many linear functions of the costs, one per policy, so that its
    slope is that of the policy which attains it (envelope theorem), which has to be given.
    Where two policies are equally good the value has a kink, and this is one of its slopes.
    """
    return {name: -p for name, p in visits(policy).opened.items()}


@dataclass(frozen=True)
class Cheaper:
    """What one cheaper box is worth.

    Attributes:
        gain: of the optimal value.
        at_least: the gain if the old policy is kept: the saving times the probability of opening.
        before: the value at the old cost.
        after: the value at the new one.
    """

    gain: float
    at_least: float
    before: float
    after: float


def cheaper(instance: PandoraInstance, name: str, cost: float, **settings: Any) -> Cheaper:
    """Solve again with another cost of one box.

    Args:
        instance: the boxes.
        name: of the box.
        cost: its new cost, not above the old one.
        settings: of `solve`.

    Raises:
        ConfigError: if there is no such box, or the new cost is negative or above the old one.
    """
    box = instance.box(name)
    if not cost <= box.cost:
        raise ConfigError(
            f"box {name!r} costs {box.cost:g}; the new cost must not be above that, got {cost:g}"
        )
    old = solve(instance, **settings)
    new = solve(instance.replace_box(box.replace(cost=cost)), **settings)
    saved = (box.cost - cost) * visits(old.policy).opened[name]
    return Cheaper(new.value - old.value, saved, old.value, new.value)
