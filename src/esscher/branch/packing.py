"""Many observations as a few tensors, for checkpoints. Arrays that are shared stay shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esscher.branch.observation.base import Observation
from esscher.errors import CheckpointError

__all__ = ["pack", "unpack"]

Array = NDArray[Any]


def pack(observations: Sequence[Observation]) -> dict[str, dict[str, Tensor]]:
    """Per field: its distinct arrays end to end, and which one every observation has."""
    return {
        field: _pack_field([getattr(seen, field) for seen in observations])
        for field in Observation._fields
    }


def unpack(packed: dict[str, dict[str, Tensor]]) -> list[Observation]:
    """The observations `pack` was given.

    Raises:
        CheckpointError: if they are damaged.
    """
    try:
        columns = [_unpack_field(packed[field]) for field in Observation._fields]
        return [Observation(*arrays) for arrays in zip(*columns, strict=True)]
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"the observations saved are damaged: {error}") from error


def _pack_field(arrays: Sequence[Array]) -> dict[str, Tensor]:
    place: dict[int, int] = {}
    distinct: list[Array] = []
    which = np.empty(len(arrays), np.int64)
    for i, array in enumerate(arrays):
        key = id(array)
        if key not in place:
            place[key] = len(distinct)
            distinct.append(array)
        which[i] = place[key]
    half = np.array([array.dtype == np.float16 for array in distinct], np.bool_)
    data = np.concatenate(distinct) if distinct else np.zeros(0, np.float32)
    sizes = np.array([len(array) for array in distinct], np.int64)
    parts = {"data": data, "sizes": sizes, "half": half, "which": which}
    return {name: torch.from_numpy(part) for name, part in parts.items()}


def _unpack_field(packed: dict[str, Tensor]) -> list[Array]:
    data, sizes, half, which = (packed[k].numpy() for k in ("data", "sizes", "half", "which"))
    if sizes.sum() != len(data):
        raise ValueError(f"{len(data)} entries where {sizes.sum()} were announced")
    wide = np.dtype(np.float32) if data.dtype == np.float16 else data.dtype
    pieces = np.split(data, np.cumsum(sizes)[:-1]) if len(sizes) else []
    # Copies: a slice would keep the whole block alive for as long as one observation stays.
    kept = [
        piece.astype(np.float16 if narrow else wide, copy=True)
        for piece, narrow in zip(pieces, half, strict=True)
    ]
    return [kept[i] for i in which]
