"""Problems from public data: digits and wine come with scikit-learn, Landsat is looked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from esscher.kit.data.registry import data_set, folder_of
from esscher.kit.require import require
from esscher.kit.runs.environment import cache_folder
from esscher.novelty.niw import Array

__all__ = ["digits", "landsat", "landsat_files", "wine"]

DIGITS_HELD_OUT, WINE_HELD_OUT = (3, 8), (2,)
LANDSAT_KNOWN = (1, 3, 4, 7)
LANDSAT_UNIT = 4.5
"""What its features are divided by, as published."""
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


def landsat() -> Example:
    """Four soils of Statlog (Landsat Satellite) to train on; the batch is all of its test rows.

    Cotton crop (2) and soil with vegetation stubble (5) are held out.

    Raises:
        DataError: if the data set is not at hand, or damaged.
    """
    train, batch = landsat_files()
    labels, truth = train[:, -1].astype(int), batch[:, -1].astype(int)
    known = np.isin(labels, LANDSAT_KNOWN)
    names = tuple(f"pixel {i // 4 + 1}, band {i % 4 + 1}" for i in range(train.shape[1] - 1))
    rows = train[known, :-1] / LANDSAT_UNIT
    return names, rows, labels[known], batch[:, :-1] / LANDSAT_UNIT, truth


def landsat_files() -> tuple[Array, Array]:
    """[4435, 37] and [2000, 37] numbers as published, the class last.

    Raises:
        DataError: if the files are neither there nor to be had.
    """
    folder = folder_of(data_set("statlog"), cache_folder() / "data")
    return np.loadtxt(folder / "sat.trn"), np.loadtxt(folder / "sat.tst")


def _halves(
    labels: NDArray[Any], held_out: tuple[int, ...], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.random.default_rng(seed).permutation(len(labels))
    half = len(order) // 2
    train, batch = order[:half], order[half:]
    return train[~np.isin(labels[train], held_out)], batch
