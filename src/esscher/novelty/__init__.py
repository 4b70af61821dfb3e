"""Novelty detection with class discovery: known classes, and an unknown number of new ones.

from esscher.novelty import NoveltyClassifier

model = NoveltyClassifier(random_state=0).fit(X, y).fit_novel(X_new)
model.batch_labels(), model.n_novel_clusters_
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "NIWPrior",
    "NoveltyClassifier",
    "class_estimate",
    "load_classifier",
    "save_classifier",
    "simulate",
]

_PLACES = {
    "NIWPrior": "settings",
    "NoveltyClassifier": "classifier",
    "class_estimate": "robust",
    "load_classifier": "persist",
    "save_classifier": "persist",
    "simulate": "designs",
}


def __getattr__(name: str) -> Any:
    """What needs scikit-learn is loaded where it is used."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
