"""Boxes, an outside option, and whether a box may be taken unseen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from esscher.errors import ConfigError
from esscher.pandora.box import Box

__all__ = ["PandoraInstance"]

Inspection = Literal["nonobligatory", "obligatory"]


@dataclass(frozen=True, init=False)
class PandoraInstance:
    """What is to be searched. The values of different boxes are independent.

    Attributes:
        boxes: any number; those without a name are called by their place, "1" to "n".
        outside: what can be had without any box, in the units of the values. -inf: nothing, so
            that a box must be taken.
        inspection: "nonobligatory" lets a closed box be taken unseen, "obligatory" does not.

    Raises:
        ConfigError: if names repeat, the outside option is NaN or +inf, the kind of inspection
            is unknown, or there is neither a box nor an outside option.
    """

    boxes: tuple[Box, ...]
    outside: float = 0.0
    inspection: Inspection = "nonobligatory"

    def __init__(
        self,
        boxes: Iterable[Box],
        outside: float = 0.0,
        inspection: Inspection = "nonobligatory",
    ) -> None:
        named = tuple(
            box if box.name else box.replace(name=str(k + 1)) for k, box in enumerate(boxes)
        )
        twice = [name for name, n in Counter(box.name for box in named).items() if n > 1]
        if twice:
            raise ConfigError(f"every box needs a name of its own, but {twice[0]!r} is used twice")
        if math.isnan(outside) or outside == math.inf:
            raise ConfigError(f"the outside option must be finite or -inf, got {outside}")
        if inspection not in ("nonobligatory", "obligatory"):
            raise ConfigError(f"inspection is nonobligatory or obligatory, got {inspection!r}")
        if not named and outside == -math.inf:
            raise ConfigError("without boxes there must be an outside option, got -inf")
        object.__setattr__(self, "boxes", named)
        object.__setattr__(self, "outside", float(outside))
        object.__setattr__(self, "inspection", inspection)

    def __len__(self) -> int:
        return len(self.boxes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The boxes' names, in their order."""
        return tuple(box.name for box in self.boxes)

    @cached_property
    def base(self) -> float:
        """The outside option, or a finite one that no policy is better off with.

        Without an outside option the least of all values and reservation values stands for it:
        a box taken unseen or opened is worth that much or more, so having it as well changes
        nothing, with obligatory inspection too, as every min(X, σ) is at least that.
        """
        if self.outside > -math.inf:
            return self.outside
        return min(min(float(box.values[0]), box.sigma) for box in self.boxes)

    def index(self, name: str) -> int:
        """The place of a box.

        Raises:
            ConfigError: if no box has this name.
        """
        if name not in self._places:
            raise ConfigError(f"there is no box {name!r}; the boxes are {', '.join(self.names)}")
        return self._places[name]

    def box(self, name: str) -> Box:
        """The box of this name.

        Raises:
            ConfigError: if there is none.
        """
        return self.boxes[self.index(name)]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.names)}

    def replace_box(self, box: Box) -> PandoraInstance:
        """The same instance with another box in the place of the one of the same name.

        Raises:
            ConfigError: if there is none.
        """
        boxes = list(self.boxes)
        boxes[self.index(box.name)] = box
        return PandoraInstance(boxes, self.outside, self.inspection)

    def to_dict(self) -> dict[str, Any]:
        """`{"outside", "inspection", "boxes": [{"name", "cost", "values", "probs"}]}`.

        No outside option is written as null.
        """
        return {
            "outside": self.outside if self.outside > -math.inf else None,
            "inspection": self.inspection,
            "boxes": [
                {
                    "name": box.name,
                    "cost": box.cost,
                    "values": box.values.tolist(),
                    "probs": box.probs.tolist(),
                }
                for box in self.boxes
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PandoraInstance:
        """An instance from what `to_dict` writes; "outside", "inspection" and names may lack.

        Raises:
            ConfigError: if a key is unknown or missing, or what it holds is not valid.
        """
        _check_keys(data, ("boxes",), ("outside", "inspection"), "the instance")
        rows = data["boxes"]
        if not isinstance(rows, Sequence) or isinstance(rows, str):
            raise ConfigError(f"boxes must be a list, got {type(rows).__name__}")
        outside = data.get("outside", 0.0)
        return cls(
            [_box_of(row, k) for k, row in enumerate(rows)],
            -math.inf if outside is None else _number(outside, "outside"),
            data.get("inspection", "nonobligatory"),
        )


def _box_of(row: Any, k: int) -> Box:
    label = f"box {k + 1}"
    if not isinstance(row, Mapping):
        raise ConfigError(f"{label} must be an object with cost, values and probs, got {row!r}")
    name = str(row.get("name") or k + 1)
    _check_keys(row, ("cost", "values", "probs"), ("name",), f"box {name!r}")
    return Box(row["values"], row["probs"], _number(row["cost"], f"box {name!r}: cost"), name)


def _number(value: Any, label: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{label} must be a number, got {value!r}") from error


def _check_keys(
    data: Mapping[str, Any], needed: tuple[str, ...], free: tuple[str, ...], label: str
) -> None:
    missing = [key for key in needed if key not in data]
    unknown = [str(key) for key in data if key not in needed + free]
    if missing:
        raise ConfigError(f"{label}: {missing[0]!r} is missing")
    if unknown:
        raise ConfigError(f"{label}: {unknown[0]!r} is unknown; known are {needed + free}")
