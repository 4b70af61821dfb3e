"""One clustering out of many draws of it: similarity, and the partition of least expected VI.

The variation of information of two clusterings is H(c) + H(c') - 2 I(c, c'), in bits. Its posterior
mean is bounded below from pairs alone, which is what is minimised here.

Reference: Wade and Ghahramani (2018), section 3 and equation 14.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import average, fcluster
from scipy.spatial.distance import squareform

from esscher.errors import DataError
from esscher.novelty.niw import Array, Index

__all__ = ["min_vi_partition", "posterior_similarity", "vi_bound"]

BLOCK_COLUMNS = 4096
MOST_CLUSTERS = 50
"""Clusters of the coarsest to the finest cut that the search begins with."""


def posterior_similarity(labels: NDArray[np.integer]) -> Array:
    """[M, M] share of the draws [S, M] in which two rows are together.

    Raises:
        DataError: if there are no draws.
    """
    if labels.ndim != 2 or not labels.size:
        raise DataError(f"draws of labels must be [S, M] and not empty, got {labels.shape}")
    out = np.zeros((labels.shape[1],) * 2, dtype=np.float32)
    for block in _one_hot_blocks(labels):
        out += block.T @ block
    return out.astype(np.float64) / len(labels)


def _one_hot_blocks(labels: NDArray[np.integer]) -> Iterator[NDArray[np.float32]]:
    """Indicators of every draw's clusters, [clusters, M], several draws at a time."""
    rows: list[NDArray[np.float32]] = []
    for draw in labels:
        rows += [(draw == k).astype(np.float32) for k in np.unique(draw)]
        if len(rows) >= BLOCK_COLUMNS:
            yield np.stack(rows)
            rows = []
    if rows:
        yield np.stack(rows)


def vi_bound(partition: Index, similarity: Array) -> float:
    """Lower bound of the expected variation of information to the draws, bits, up to a constant.

    1/M Σ_i (log n_i - 2 log Σ_j p_ij [c_j = c_i]), with n_i the size of i's cluster.
    """
    size, shared = np.empty(len(partition)), np.empty(len(partition))
    for k in np.unique(partition):
        own = np.flatnonzero(partition == k)
        size[own], shared[own] = len(own), similarity[np.ix_(own, own)].sum(1)
    return float((np.log2(size) - 2 * np.log2(shared)).mean())


def min_vi_partition(similarity: Array, candidates: Iterable[Index] = ()) -> Index:
    """[M] clusters 0, 1, … of a partition that no move of a single row makes better.

    The search begins with the best of the given candidates, of average-linkage trees of
    1 - similarity cut anywhere, and of all rows together or apart.

    Args:
        similarity: [M, M] of `posterior_similarity`.
        candidates: further partitions to begin with, such as draws.

    Raises:
        DataError: if the matrix is not square.
    """
    m = len(similarity)
    if similarity.shape != (m, m) or not m:
        raise DataError(f"a similarity must be [M, M] with M >= 1, got {similarity.shape}")
    begins = [np.zeros(m, dtype=np.int64), np.arange(m), *map(np.asarray, candidates)]
    if m > 1:
        distance = squareform(np.maximum(1 - similarity, 0), checks=False)
        tree = average(distance)
        cuts = range(1, min(m, MOST_CLUSTERS) + 1)
        begins += [fcluster(tree, k, "maxclust").astype(np.int64) for k in cuts]
    best = min(begins, key=lambda c: vi_bound(c, similarity))
    return _renumbered(_sweetened(_renumbered(best), similarity))


def _sweetened(partition: Index, similarity: Array) -> Index:
    """Rows moved one by one to where the bound is lowest, until none moves."""
    c = partition.copy()
    # [M, K + 1] similarity of every row to all rows of a cluster; the last column has no rows.
    shared = np.stack([similarity[:, c == k].sum(1) for k in range(int(c.max()) + 2)], 1)
    moved = True
    while moved:
        moved = False
        for row in range(len(c)):
            here = int(c[row])
            to = _best_place(row, c, similarity[row], shared)
            if to == here:
                continue
            moved = True
            c[row] = to
            shared[:, here] -= similarity[row]
            shared[:, to] += similarity[row]
            if to == shared.shape[1] - 1:
                shared = np.concatenate([shared, np.zeros((len(c), 1))], 1)
    return c


def _best_place(row: int, c: Index, near: Array, shared: Array) -> int:
    """Cluster for a row of similarities near [M], given all others; its own where none is better.

    Joining n rows costs larger logs of the size, and gains larger shares, for all of them:
    (n + 1) log(n + 1) - n log n - 2 Σ log((s_i + p_i) / s_i) - 2 log(s + p_row).
    """
    here = int(c[row])
    costs = {}
    for k in range(shared.shape[1]):
        own = np.flatnonzero(c == k)
        own = own[own != row]
        n, inside = len(own), shared[own, k]
        if k == here:
            inside = inside - near[own]
        gain = np.log2(inside + near[own]).sum() - np.log2(inside).sum()
        cost = (n + 1) * np.log2(n + 1) - (n * np.log2(n) if n else 0.0)
        costs[k] = cost - 2 * (gain + np.log2(near[own].sum() + near[row]))
    best = min(costs, key=lambda k: costs[k])
    return best if costs[best] < costs[here] - 1e-9 else here


def _renumbered(partition: Index) -> Index:
    """Clusters numbered by their first row."""
    _, first, inverse = np.unique(partition, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return np.asarray(rank[inverse], dtype=np.int64)
