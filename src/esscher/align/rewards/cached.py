"""A reward that is computed once for every text and prompt."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esscher.align.rewards.functions import identity_of, values_of
from esscher.core.batch import BatchFunction, shown
from esscher.core.evidence import default_name
from esscher.errors import ConfigError, DataError
from esscher.kit.scale.ledger import Ledger

__all__ = ["CachedReward"]


class CachedReward:
    """A reward function that is asked only for what it was not asked before.

    In a batch, equal items with equal prompts are computed once; the function must be deterministic
    and must not look at the rest of the batch. What it raises is not remembered.

    Args:
        function: `f(items)` or `f(items, contexts)` -> one number per item.
        size: rewards kept in memory, the least recently used dropped first, >= 1.
        path: JSON Lines file to keep them in as well; several processes may share it. It belongs to
            the function's name and the version.
        version: change it when the function does, so that old rewards are not used.

    Raises:
        ConfigError: if size is below 1, or a path is given for a function that has neither a name
            of its own nor a version.
        DataError: if the file is something else than such a cache.
    """

    def __init__(
        self,
        function: BatchFunction,
        *,
        size: int = 1_000_000,
        path: Path | None = None,
        version: str = "",
    ) -> None:
        if size < 1:
            raise ConfigError(f"CachedReward needs size >= 1, got {size}")
        self.identity = identity_of(function)
        if path is not None and not version and "<" in self.identity:
            raise ConfigError(
                f"a cache on disk tells functions apart by name, and {self.identity} has none of "
                "its own; pass a version, or a function from the top level of a module"
            )
        self._function = function
        self._size = size
        self._scope = f"{self.identity}\0{version}\0"
        self._known: OrderedDict[str, float] = OrderedDict()
        self._ledger = None if path is None else Ledger(path)
        self.__name__ = default_name(function, "reward")
        self._catch_up()

    def __len__(self) -> int:
        """Rewards in memory."""
        return len(self._known)

    def __call__(self, items: Sequence[Any], contexts: Sequence[Any] | None = None) -> list[float]:
        """B rewards, each below inf.

        Raises:
            DataError: if an item has no JSON form, or as `evaluate` does.
            NumericsError: if a reward is NaN or inf.
        """
        prompts = [None] * len(items) if contexts is None else contexts
        keys = [self._key(item, p) for item, p in zip(items, prompts, strict=True)]
        if any(key not in self._known for key in keys):
            self._catch_up()
        missing = {key: i for i, key in enumerate(keys) if key not in self._known}
        # Taken aside before the new ones come, which may push them out.
        found = {key: self._known[key] for key in keys if key not in missing}
        for key in found:
            self._known.move_to_end(key)
        if missing:
            found |= self._compute(missing, items, contexts)
        return [found[key] for key in keys]

    def _compute(
        self, missing: dict[str, int], items: Sequence[Any], contexts: Sequence[Any] | None
    ) -> dict[str, float]:
        rows = list(missing.values())
        asked = [items[i] for i in rows]
        about = None if contexts is None else [contexts[i] for i in rows]
        values = values_of(self._function, asked, about, self.__name__)
        new = dict(zip(missing, values, strict=True))
        if self._ledger is not None:
            self._keep(self._ledger.append(new))
        self._keep(new)
        return new

    def _catch_up(self) -> None:
        """Take in what is in the file, and what others have added to it since."""
        if self._ledger is not None:
            self._keep(self._ledger.read())

    def _keep(self, rewards: dict[str, float]) -> None:
        self._known.update(rewards)
        while len(self._known) > self._size:
            self._known.popitem(last=False)

    def _key(self, item: object, prompt: object) -> str:
        try:
            text = json.dumps([item, prompt])
        except (TypeError, ValueError) as error:
            raise DataError(
                f"a cache needs items and prompts with a JSON form, got {shown(item)} with prompt "
                f"{shown(prompt)}: {error}"
            ) from error
        return hashlib.sha256((self._scope + text).encode()).hexdigest()[:32]
