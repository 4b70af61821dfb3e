"""Many observations as one graph: concatenated, with offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esscher.branch.observation.base import (
    COLUMN_FEATURES,
    ROW_FEATURES,
    TREE_FEATURES,
    Observation,
)
from esscher.errors import DataError, ShapeError

__all__ = ["FEATURES", "FeatureSet", "GraphBatch", "collate"]

FeatureSet = Literal["gasse19", "retro43"]
FEATURES: dict[str, int] = {
    "gasse19": len(COLUMN_FEATURES),
    "retro43": len(COLUMN_FEATURES) + len(TREE_FEATURES),
}
"""Inputs per column of every feature set."""


@dataclass(frozen=True)
class GraphBatch:
    """B graphs side by side. Rows, columns and candidates are numbered through.

    Attributes:
        rows: [R, 5] features of row sides.
        columns: [C, 19] or [C, 43] features of columns; the tree's are the last 24.
        edge_row: [E] int32 row side of every coefficient.
        edge_column: [E] int32 column of it.
        edge_value: [E] the coefficient.
        row_degree: [R] edges of every row side.
        candidates: [K] int64 column of every candidate.
        back_row: [E'] int32 row side of every edge that ends in a candidate.
        back_candidate: [E'] int32 that candidate, 0 .. K-1.
        back_value: [E'] the coefficient.
        candidate_degree: [K] edges of every candidate.
        first: [B] int64 number of every graph's first candidate.
        cell: [K] int64 place of every candidate in a table of B rows and `widest` columns.
        widest: most candidates of a graph.
    """

    rows: Tensor
    columns: Tensor
    edge_row: Tensor
    edge_column: Tensor
    edge_value: Tensor
    row_degree: Tensor
    candidates: Tensor
    back_row: Tensor
    back_candidate: Tensor
    back_value: Tensor
    candidate_degree: Tensor
    first: Tensor
    cell: Tensor
    widest: int

    def __len__(self) -> int:
        return len(self.first)

    def to(self, device: torch.device | str) -> Self:
        """The same on a device."""
        moved = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in moved.items()}
        return type(self)(**moved)

    def table(self, scores: Tensor) -> Tensor:
        """[B, widest] scores [K] of candidates by graph, -inf where a graph has fewer."""
        empty = scores.new_full((len(self) * self.widest,), -torch.inf)
        return empty.index_copy(0, self.cell, scores).view(len(self), self.widest)

    def chosen(self, scores: Tensor, place: Tensor) -> Tensor:
        """[B] scores [K] of one candidate per graph, at places [B] among the graph's own."""
        return scores.index_select(0, self.first + place)


def collate(observations: Sequence[Observation], features: FeatureSet) -> GraphBatch:
    """One batch of B >= 1 observations.

    Args:
        observations: arrays may be of half precision.
        features: which column features; "gasse19" leaves out the tree's.

    Raises:
        DataError: if there is none, or one has no candidates.
        ShapeError: if one lacks the features.
    """
    if not observations:
        raise DataError("a batch needs one observation at least")
    for place, seen in enumerate(observations):
        if len(seen.candidates) == 0:
            raise DataError(f"observation {place} of the batch has no candidates")
    rows = _joined([seen.rows for seen in observations])
    if rows.shape[1] != len(ROW_FEATURES):
        raise ShapeError(f"a row has {len(ROW_FEATURES)} features, got {rows.shape[1]}")
    columns = _joined([seen.columns for seen in observations])
    n_columns = _sizes([seen.columns for seen in observations])
    if features == "retro43":
        tree = [_tree_of(seen) for seen in observations]
        columns = np.hstack([columns, np.repeat(np.stack(tree), n_columns, axis=0)])
    if columns.shape[1] != FEATURES[features]:
        raise ShapeError(
            f"{features} has {FEATURES[features]} features per column, got {columns.shape[1]}"
        )
    n_rows = _sizes([seen.rows for seen in observations])
    n_edges = _sizes([seen.edge_row for seen in observations])
    counts = _sizes([seen.candidates for seen in observations])
    row = _numbered([seen.edge_row for seen in observations], n_rows, n_edges)
    column = _numbered([seen.edge_column for seen in observations], n_columns, n_edges)
    candidates = _numbered([seen.candidates for seen in observations], n_columns, counts)
    value = _joined([seen.edge_value for seen in observations])
    slot = np.full(len(columns), -1, np.int32)
    slot[candidates] = np.arange(len(candidates), dtype=np.int32)
    end = slot[column]
    back = np.flatnonzero(end >= 0)
    first = np.cumsum(counts) - counts
    widest = int(counts.max())
    cell = np.arange(len(candidates)) + np.repeat(np.arange(len(counts)) * widest - first, counts)
    arrays = {
        "rows": rows,
        "columns": columns,
        "edge_row": row,
        "edge_column": column,
        "edge_value": value,
        "row_degree": np.bincount(row, minlength=n_rows.sum()).astype(np.float32),
        "candidates": candidates.astype(np.int64),
        "back_row": row[back],
        "back_candidate": end[back],
        "back_value": value[back],
        "candidate_degree": np.bincount(end[back], minlength=len(candidates)).astype(np.float32),
        "first": first,
        "cell": cell,
    }
    return GraphBatch(**{k: torch.from_numpy(v) for k, v in arrays.items()}, widest=widest)


def _sizes(parts: Sequence[NDArray[np.generic]]) -> NDArray[np.int64]:
    return np.array([len(part) for part in parts], dtype=np.int64)


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(parts, dtype=np.float32)


def _tree_of(seen: Observation) -> NDArray[np.float32]:
    if seen.tree.shape != (len(TREE_FEATURES),):
        raise ShapeError(
            f"retro43 needs {len(TREE_FEATURES)} tree features, got {seen.tree.shape}; observe "
            "with them, or take gasse19"
        )
    return seen.tree.astype(np.float32)


def _numbered(
    parts: Sequence[NDArray[np.int32]], sizes: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Numbers inside graphs of these sizes, as numbers through all graphs."""
    offset = (np.cumsum(sizes) - sizes).astype(np.int32)
    return np.concatenate(parts, dtype=np.int32) + np.repeat(offset, counts)
