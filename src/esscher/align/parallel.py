"""One batch on several processes: who draws what, and what all have to know.

A batch is drawn in parts, each from random numbers of its own, and every process holds the whole
batch afterwards: tokens and numbers, which are small. The slope of an objective may depend on all
draws; each process differentiates its own rows, and the gradients are added up. With the same
number of parts one process takes the same steps, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from esscher.align.config import FitConfig
from esscher.align.objectives import get_objective
from esscher.align.propose import Scored, recounted
from esscher.errors import ConfigError
from esscher.kit.ranks import Ranks

__all__ = ["check_parallel", "draw_parts", "joined_rows", "largest", "parts_of", "rows_of"]


def parts_of(config: FitConfig, ranks: Ranks) -> int:
    """Parts of a batch: as many as configured, or as there are processes."""
    return ranks.world if config.parts is None else config.parts


def check_parallel(config: FitConfig, batch: int, ranks: Ranks, *, prompts: bool) -> None:
    """Refuse batches and objectives that cannot be shared out.

    Raises:
        ConfigError: if parts, batch, group and processes do not go into each other, or the
            objective trains in one process only.
    """
    parts, objective = parts_of(config, ranks), get_objective(config.objective)
    if "replay" in (config.proposal, objective.proposal):
        batch //= 2
    if parts % ranks.world or batch % parts:
        raise ConfigError(
            f"{batch} draws a step in {parts} parts cannot be shared out evenly among "
            f"{ranks.world} processes; parts must be a multiple of these and divide the batch"
        )
    if prompts and parts > 1 and (batch // parts) % config.group:
        raise ConfigError(
            f"with prompts a part has whole groups, got {batch} draws a step in {parts} parts and "
            f"groups of {config.group}"
        )
    if ranks.world > 1 and (objective.per_token or config.credit == "token"):
        what = "credit='token'" if config.credit == "token" else config.objective
        raise ConfigError(
            f"{what} trains in one process; take an objective over whole draws, such as "
            "forward_kl with credit='sequence', vargrad or reverse_kl"
        )


def draw_parts(draw: Callable[[int], Scored], parts: int, ranks: Ranks) -> Scored:
    """All parts of a batch, of which every process draws its share.

    Args:
        draw: gives the part of that number.
        parts: how many there are, a multiple of the processes.
        ranks: this process.
    """
    share = parts // ranks.world
    own = [draw(i) for i in range(ranks.rank * share, (ranks.rank + 1) * share)]
    return recounted(Scored.join([part for found in ranks.gather(own) for part in found]))


def rows_of(n: int, ranks: Ranks) -> Tensor:
    """Rows of a batch of n that this process differentiates."""
    return torch.arange(ranks.rank, n, ranks.world)


def joined_rows(own: Tensor, n: int, ranks: Ranks) -> Tensor:
    """The values [n] of all rows, from those [b] of every process."""
    out = torch.zeros(n, dtype=own.dtype)
    for rank, values in enumerate(ranks.gather(own.detach())):
        out[rows_of(n, Ranks(rank, ranks.world))] = values
    return out


def largest(own: float | None, ranks: Ranks) -> float | None:
    """The largest of all processes' values; None where none has one."""
    return max((value for value in ranks.gather(own) if value is not None), default=None)
