"""Problems from data that comes with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from esscher.kit.require import require
from esscher.novelty.niw import Array

__all__ = ["digits", "wine"]

DIGITS_HELD_OUT, WINE_HELD_OUT = (3, 8), (2,)
COMPONENTS = 20
"""Principal components of the digits' 64 pixels, found on training rows."""

Example = tuple[tuple[str, ...], Array, NDArray[Any], Array, NDArray[Any]]


def digits(seed: int = 0) -> Example:
    """Half of the digits to train on, without threes and eights; the other half as the batch."""
    rows, labels = require("sklearn.datasets", extra="sklearn").load_digits(return_X_y=True)
    train, batch = _halves(labels, DIGITS_HELD_OUT, seed)
    pca = require("sklearn.decomposition", extra="sklearn").PCA(
        COMPONENTS, svd_solver="full", random_state=seed
    )
    names = tuple(f"component {i + 1}" for i in range(COMPONENTS))
    pca.fit(rows[train])
    return (
        names,
        pca.transform(rows[train]),
        labels[train],
        pca.transform(rows[batch]),
        labels[batch],
    )


def wine(seed: int = 0) -> Example:
    """Half of the wines to train on, without the third cultivar; the other half as the batch."""
    data = require("sklearn.datasets", extra="sklearn").load_wine()
    train, batch = _halves(data.target, WINE_HELD_OUT, seed)
    names = tuple(map(str, data.feature_names))
    return names, data.data[train], data.target[train], data.data[batch], data.target[batch]


def _halves(
    labels: NDArray[Any], held_out: tuple[int, ...], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.random.default_rng(seed).permutation(len(labels))
    half = len(order) // 2
    train, batch = order[:half], order[half:]
    return train[~np.isin(labels[train], held_out)], batch
