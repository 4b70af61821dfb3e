"""Classes of instances by name."""

from __future__ import annotations

import difflib

from esscher.branch.instances.auction import Auction
from esscher.branch.instances.facility import Facility
from esscher.branch.instances.independent_set import IndependentSet
from esscher.branch.instances.kind import InstanceClass
from esscher.branch.instances.set_cover import SetCover
from esscher.errors import ConfigError

__all__ = ["CLASSES", "SIZES", "named"]

CLASSES: dict[str, type[InstanceClass]] = {
    "auction": Auction,
    "facility": Facility,
    "independent-set": IndependentSet,
    "setcover": SetCover,
}
"""Frozen dataclasses; their fields are the parameters."""

_ALL: tuple[InstanceClass, ...] = (
    # Parsonson, Laterre and Barrett (2023).
    SetCover(100, 100),
    SetCover(165, 230),
    SetCover(250, 500),
    SetCover(500, 1000),
    Auction(10, 50),
    Facility(5, 5),
    Facility(5, 8),
    IndependentSet(25),
    # Gasse et al. (2019): one size to train on, two larger ones.
    SetCover(1000, 1000),
    SetCover(2000, 1000),
    Auction(100, 500, add_item_prob=0.7),
    Auction(200, 1000, add_item_prob=0.7),
    Auction(300, 1500, add_item_prob=0.7),
    Facility(100, 100),
    Facility(200, 100),
    Facility(400, 100),
    IndependentSet(500),
    IndependentSet(1000),
    IndependentSet(1500),
    # Scavuzzo et al. (2022).
    SetCover(400, 750),
)

SIZES: dict[str, InstanceClass] = {kind.name: kind for kind in _ALL}
"""Sizes of published experiments."""


def named(name: str) -> InstanceClass:
    """A class of instances in one of `SIZES`.

    Raises:
        ConfigError: if there is none of this name; the nearest are listed.
    """
    if name in SIZES:
        return SIZES[name]
    near = difflib.get_close_matches(name, SIZES, 3, 0.4)
    hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(sorted(SIZES))}"
    raise ConfigError(f"no class of instances is named {name!r}; {hint}")
