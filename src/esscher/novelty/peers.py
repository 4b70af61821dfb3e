"""Detectors and mixtures of scikit-learn on the same rows, for comparison."""

from __future__ import annotations

import time
import warnings
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esscher.kit.require import require
from esscher.novelty.niw import Array
from esscher.novelty.robust import Method, class_estimate

__all__ = ["compare_peers", "scores_of"]


def compare_peers(
    train: Array, labels: NDArray[Any], batch: Array, truth: NDArray[Any], *, seed: int
) -> list[dict[str, Any]]:
    """Each peer's ranking of novelties, or its clusters, and its CPU seconds.

    Local outlier factor, nearest neighbours, isolation forest and one-class SVM see the training
    rows without their classes; the least Mahalanobis distance is over classes, as stage 1 or plain
    moments describe them; the Dirichlet-process mixture sees the batch alone.
    """
    novel = ~np.isin(truth.astype(str), labels.astype(str))
    ensemble = require("sklearn.ensemble", extra="sklearn")
    near = require("sklearn.neighbors", extra="sklearn")
    mixture = require("sklearn.mixture", extra="sklearn")
    unit = train.std(0)
    unit[unit == 0] = 1.0
    a, b = (train - train.mean(0)) / unit, (batch - train.mean(0)) / unit

    def lof() -> Array:
        model = near.LocalOutlierFactor(novelty=True).fit(a)
        found: Array = -model.score_samples(b)
        return found

    def forest() -> Array:
        found: Array = -ensemble.IsolationForest(random_state=seed).fit(a).score_samples(b)
        return found

    def support() -> Array:
        svm = require("sklearn.svm", extra="sklearn")
        found: Array = -svm.OneClassSVM(gamma="scale").fit(a).score_samples(b)
        return found

    def neighbours() -> Array:
        distance, _ = near.NearestNeighbors(n_neighbors=5).fit(a).kneighbors(b)
        found: Array = distance[:, -1]
        return found

    rows = []
    for name, score in (
        ("local outlier factor", lof),
        ("fifth nearest neighbour", neighbours),
        ("isolation forest", forest),
        ("one-class SVM", support),
        ("least Mahalanobis distance, mcd", partial(_least_distance, a, labels, b, "mcd", seed)),
        (
            "least Mahalanobis distance, empirical",
            partial(_least_distance, a, labels, b, "empirical", seed),
        ),
    ):
        began = time.process_time()
        found = score()
        spent = time.process_time() - began
        row = {"method": name, "auc": _auc(found, novel), "ari": None, "seconds": spent}
        rows.append(row)
    began = time.process_time()
    k = min(20, len(batch))
    model = mixture.BayesianGaussianMixture(n_components=k, random_state=seed, max_iter=500)
    clusters = model.fit_predict(b)
    spent = time.process_time() - began
    name = "Dirichlet-process mixture"
    rows.append({"method": name, "auc": None, "ari": _ari(truth, clusters), "seconds": spent})
    return rows


def _least_distance(
    train: Array, labels: NDArray[Any], batch: Array, method: Method, seed: int
) -> Array:
    """[M] squared distance to the nearest class, each in its own covariance."""
    found = np.full(len(batch), np.inf)
    with warnings.catch_warnings():
        # What they say was said when the model itself was fitted.
        warnings.simplefilter("ignore", UserWarning)
        for label in np.unique(labels):
            rows = train[labels == label]
            estimate = class_estimate(rows, label, method, random_state=seed)
            centred = batch - estimate.location
            solved = np.linalg.solve(estimate.covariance, centred.T).T
            found = np.minimum(found, (centred * solved).sum(1))
    return found


def scores_of(
    proba: Array, component: NDArray[np.int64], labels: NDArray[Any], truth: NDArray[Any]
) -> dict[str, float | None]:
    """Accuracy of known-or-novel, AUC and adjusted Rand index of a fitted batch."""
    novel = ~np.isin(truth.astype(str), labels.astype(str))
    accuracy = float(((component >= len(labels)) == novel).mean())
    return {
        "novelty_accuracy": accuracy,
        "auc": _auc(proba, novel),
        "ari": _ari(truth, component),
    }


def _auc(score: Array, novel: NDArray[np.bool_]) -> float | None:
    """Of ranking novelties; None where there are only rows of one kind."""
    if not 0 < novel.sum() < len(novel):
        return None
    return float(require("sklearn.metrics", extra="sklearn").roc_auc_score(novel, score))


def _ari(truth: NDArray[Any], clusters: NDArray[np.int64]) -> float:
    metrics = require("sklearn.metrics", extra="sklearn")
    return float(metrics.adjusted_rand_score(truth, clusters))
