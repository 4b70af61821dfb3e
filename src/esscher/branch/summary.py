"""What an evaluation says of every policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from esscher.branch.grid import Grid
from esscher.branch.rows import Row
from esscher.branch.statistics import (
    Ratio,
    arithmetic_mean,
    geometric_mean,
    paired_ratio,
    seed_spread,
    wins,
)
from esscher.core.estimate import Estimate
from esscher.errors import ConfigError

__all__ = ["Summary", "summarise"]

Floats = NDArray[np.float64]
_Some: TypeAlias = Estimate | None
_Sizes: TypeAlias = tuple[_Some, _Some, _Some, _Some, _Some]


@dataclass(frozen=True)
class Summary:
    """Numbers of one policy. Their n is that of instances; seeds are averaged first.

    Node counts are over the instance-seed pairs at whose end every policy arrived, so that all are
    measured on the same trees; None where there is no such pair.

    Attributes:
        nodes_mean: arithmetic mean of the nodes.
        nodes_gmean: geometric mean of the nodes.
        fair_gmean: geometric mean of the fair nodes; None where they are not known.
        decisions_mean: arithmetic mean of the decisions.
        seed_std: standard deviation over seeds in % of the mean; None with one seed.
        wins: instances won, see `wins`.
        seconds_gmean: geometric mean of the seconds, shifted by 1 s, over all pairs. A solve that
            a limit ended counts with what it took.
        policy_share: share of the seconds that the policy itself took.
        censored: solves that a limit ended.
        solves: of the policy in all.
        nodes_ratio: fair nodes over those of the base, on pairs at whose end both arrived; None
            of the base itself.
        seconds_ratio: seconds over those of the base, both shifted by 1 s, over all pairs.
    """

    nodes_mean: Estimate | None
    nodes_gmean: Estimate | None
    fair_gmean: Estimate | None
    decisions_mean: Estimate | None
    seed_std: Estimate | None
    wins: Estimate
    seconds_gmean: Estimate
    policy_share: float
    censored: int
    solves: int
    nodes_ratio: Ratio | None = None
    seconds_ratio: Ratio | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it by name; None where there is none."""
        return dict(vars(self))


def summarise(
    rows: Sequence[Row], base: str | None = None, *, rng: np.random.Generator | None = None
) -> dict[str, Summary]:
    """Numbers of every policy, by label.

    Args:
        rows: of one evaluation, all of them.
        base: policy that the others are held against.
        rng: of the bootstrap; needed with a base.

    Raises:
        DataError: if rows are missing.
        ConfigError: if there is no such base, or no generator with one.
    """
    grid = Grid.of(rows)
    if base is not None and base not in grid.policies:
        raise ConfigError(f"there is no policy {base!r} to compare with among {grid.policies}")
    if base is not None and rng is None:
        raise ConfigError("comparing with a base needs a generator for the bootstrap")
    won = wins(grid.fair, grid.ended)
    found: dict[str, Summary] = {}
    for k, policy in enumerate(grid.policies):
        nodes_ratio = seconds_ratio = None
        if base is not None and rng is not None and policy != base:
            nodes_ratio, seconds_ratio = _against(grid, k, grid.policies.index(base), rng)
        found[policy] = Summary(
            *_sizes(grid, k),
            wins=won[k],
            seconds_gmean=_over_seeds(grid.seconds[k], None, shift=1.0),
            policy_share=float(grid.policy_seconds[k].sum() / max(grid.seconds[k].sum(), 1e-9)),
            censored=int((~grid.ended[k]).sum()),
            solves=int(grid.ended[k].size),
            nodes_ratio=nodes_ratio,
            seconds_ratio=seconds_ratio,
        )
    return found


def _against(grid: Grid, k: int, base: int, rng: np.random.Generator) -> tuple[Ratio | None, Ratio]:
    """Of fair nodes, over the pairs at whose end both arrived, and of seconds."""
    fair = np.log(np.maximum(grid.fair, 1.0))
    time = np.log(grid.seconds + 1.0)
    logs = _instance_means(fair[k] - fair[base], grid.ended[k] & grid.ended[base])
    nodes = paired_ratio(logs, rng) if len(logs) else None
    return nodes, paired_ratio((time[k] - time[base]).mean(1), rng)


def _sizes(grid: Grid, k: int) -> _Sizes:
    """The five numbers of a summary that are about trees, in its order."""
    common = grid.common
    if not common.any():
        return None, None, None, None, None
    nodes, fair = grid.nodes[k], grid.fair_nodes[k]
    known = not np.isnan(fair).any()
    return (
        arithmetic_mean(_instance_means(nodes, common)),
        _over_seeds(np.maximum(nodes, 1.0), common),
        _over_seeds(np.maximum(fair, 1.0), common) if known else None,
        arithmetic_mean(_instance_means(grid.decisions[k], common)),
        seed_spread(np.where(common, nodes, np.nan)),
    )


def _over_seeds(values: Floats, mask: NDArray[np.bool_] | None, shift: float = 0.0) -> Estimate:
    """Geometric mean over instances of geometric means over seeds."""
    whole = np.ones(values.shape, dtype=bool) if mask is None else mask
    logs = _instance_means(np.log(values + shift), whole)
    return geometric_mean(np.exp(logs) - shift, shift)


def _instance_means(values: Floats, mask: NDArray[np.bool_]) -> Floats:
    """[J] means over seeds where the mask holds, of instances where it does at all."""
    some = mask.any(1)
    sums = np.where(mask, values, 0.0).sum(1)[some]
    return np.asarray(sums / mask.sum(1)[some])
