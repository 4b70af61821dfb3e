"""Novelty detection with class discovery: known classes, and an unknown number of new ones.

from esscher.novelty import NoveltyClassifier

model = NoveltyClassifier(random_state=0).fit(X, y).fit_novel(X_new)
model.batch_labels(), model.n_novel_clusters_
"""

from __future__ import annotations

from esscher.kit.lazy import lazy_names

__all__ = [
    "NIWPrior",
    "NoveltyClassifier",
    "class_estimate",
    "load_classifier",
    "save_classifier",
    "simulate",
]

__getattr__ = lazy_names(
    __name__,
    {
        "NIWPrior": "settings",
        "NoveltyClassifier": "classifier",
        "class_estimate": "robust",
        "load_classifier": "persist",
        "save_classifier": "persist",
        "simulate": "designs",
    },
)
