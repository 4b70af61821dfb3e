"""From components to what users call them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError
from esscher.novelty.niw import Array, Index

__all__ = ["Rule", "components_of", "joint_of", "labels_of", "novelty_label"]

Rule = Literal["summed", "argmax"]


def components_of(shares: Array, n_known: int, rule: Rule) -> Index:
    """[M] component of each row.

    Args:
        shares: [M, C] probabilities, those of the known classes first.
        n_known: J.
        rule: "summed" for novel where the novel shares add up to more than half, "argmax" for the
            most probable component.
    """
    found = shares.argmax(1)
    if rule == "summed":
        novel = shares[:, n_known:].sum(1) > 0.5
        own, other = shares[:, :n_known].argmax(1), shares[:, n_known:].argmax(1)
        found = np.where(novel, n_known + other, own)
    return np.asarray(found, dtype=np.int64)


def joint_of(shares: Array, n_known: int) -> Array:
    """[M, J + 1] of classes and novelty; rounding leaves no probability above 1."""
    novel = np.minimum(shares[:, n_known:].sum(1, keepdims=True), 1.0)
    return np.concatenate([shares[:, :n_known], novel], 1)


def novelty_label(wanted: Any, classes: NDArray[Any]) -> Any:
    """What novelties are called; None for "novel" among strings and a number below all classes.

    Raises:
        ConfigError: if a class is called so.
    """
    if wanted is None:
        below = -1 if classes.dtype.kind not in "if" else min(-1, classes.min() - 1)
        wanted = "novel" if classes.dtype.kind in "OUS" else below
    if wanted in classes.tolist():
        raise ConfigError(
            f"novelties cannot be called {wanted!r}, which is a class; set novelty_label"
        )
    return wanted


def labels_of(component: Index, classes: NDArray[Any], novel: Any) -> NDArray[Any]:
    """[M] class of each component, or what novelties are called."""
    known = component < len(classes)
    if bool(known.all()):
        return classes[component]
    other = np.empty(1, object) if classes.dtype.kind == "O" else np.array([novel])
    other[0] = novel
    return np.append(classes, other)[np.where(known, component, len(classes))]
