"""A reward in batches over the workers of a pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esscher.align.rewards.functions import identity_of, values_of
from esscher.core.batch import BatchFunction, arguments_for
from esscher.core.evidence import default_name
from esscher.errors import ConfigError
from esscher.kit.scale.pool import Pool
from esscher.kit.scale.worker import Applied

__all__ = ["PooledReward"]


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
        self.function = function
        self.pool = pool
        self.batch = batch
        self.timeout = timeout
        self.identity = identity_of(function)
        self.__name__ = default_name(function, "reward")

    def __call__(self, items: Sequence[Any], contexts: Sequence[Any] | None = None) -> list[float]:
        """B numbers, in the order of the items; see `Pool.map` for what it raises.

        Raises:
            DataError: if a call returns something else than one number per item.
            NumericsError: if a number is NaN or inf.
        """
        size = self.batch or max(1, -(-len(items) // self.pool.workers))
        shares = [
            (
                list(items[i : i + size]),
                None if contexts is None else list(contexts[i : i + size]),
            )
            for i in range(0, len(items), size)
        ]
        found = self.pool.map(
            Applied(self.function, self.__name__),
            [arguments_for(self.function, *share) for share in shares],
            timeout=self.timeout,
        )
        pairs = zip(shares, found, strict=True)
        return [v for (share, _), raw in pairs for v in self._checked(share, raw)]

    def _checked(self, items: list[Any], raw: object) -> list[float]:
        # Here and not in the worker, which so need not load torch.
        return values_of(lambda _: raw, items, None, self.__name__)
