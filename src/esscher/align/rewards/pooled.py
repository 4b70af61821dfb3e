"""A reward in batches over the workers of a pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esscher.align.rewards.functions import identity_of, values_of
from esscher.core.batch import BatchFunction
from esscher.core.evidence import default_name
from esscher.errors import ConfigError
from esscher.kit.scale.pool import Pool

__all__ = ["PooledReward"]

_Share = tuple[list[Any], list[Any] | None]


class PooledReward:
    """A reward function whose batches run on the workers of a pool.

    Args:
        function: `f(items)` or `f(items, contexts)` -> one number per item; picklable, unless the
            pool is serial. Its value for an item must not depend on the rest of the batch.
        pool: where it runs; closed by whoever opened it, or when nobody refers to it any more.
        batch: items per call, >= 1; by default as many as give every worker one call.
        timeout: seconds that one call may take; None for no limit.

    Raises:
        ConfigError: if batch is below 1.
    """

    def __init__(
        self,
        function: BatchFunction,
        pool: Pool,
        *,
        batch: int | None = None,
        timeout: float | None = None,
    ) -> None:
        if batch is not None and batch < 1:
            raise ConfigError(f"PooledReward needs batch >= 1, got {batch}")
        self._share = _Scorer(function)
        self.pool = pool
        self.batch = batch
        self.timeout = timeout
        self.identity = identity_of(function)
        self.__name__ = self._share.__name__

    def __call__(self, items: Sequence[Any], contexts: Sequence[Any] | None = None) -> list[float]:
        """B numbers, in the order of the items; see `Pool.map` for what it raises."""
        size = self.batch or max(1, -(-len(items) // self.pool.workers))
        shares = [
            (
                list(items[i : i + size]),
                None if contexts is None else list(contexts[i : i + size]),
            )
            for i in range(0, len(items), size)
        ]
        found = self.pool.map(self._share, shares, timeout=self.timeout)
        return [value for values in found for value in values]


class _Scorer:
    """The function on one share of the items, checked where it runs."""

    def __init__(self, function: BatchFunction) -> None:
        self.function = function
        self.__name__ = default_name(function, "reward")

    def __call__(self, share: _Share) -> list[float]:
        items, contexts = share
        return values_of(self.function, items, contexts, self.__name__)
