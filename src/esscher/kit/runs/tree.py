"""Nested state split into tensors and JSON, and put together again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esscher.errors import CheckpointError
from esscher.kit.runs.files import Json

__all__ = ["flatten_tree", "unflatten_tree"]

_TAG = "$"


def flatten_tree(tree: object) -> tuple[dict[str, Tensor], Json]:
    """Split nested state, such as an optimiser's `state_dict()`, into tensors and JSON.

    Dicts (keys str, int, float, bool, None or tuples of these), lists, tuples, tensors, numpy
    arrays, numbers (infinities included), strings and None come back as they were, numpy arrays
    and scalars with their dtype.

    Returns:
        Tensors by path, and a JSON value that refers to them.

    Raises:
        CheckpointError: if a part is of another type; its path is named.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _split(tree, "", tensors)


def _split(node: object, path: str, tensors: dict[str, Tensor]) -> Json:
    if isinstance(node, (Tensor, np.ndarray, np.generic)):
        return _store(node, path or "value", tensors)
    if isinstance(node, float) and not math.isfinite(node):
        return {_TAG: "float", "value": repr(node)}
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    if isinstance(node, (list, tuple)):
        items = [_split(item, _join(path, i), tensors) for i, item in enumerate(node)]
        return items if isinstance(node, list) else {_TAG: "tuple", "items": items}
    if isinstance(node, Mapping):
        if all(isinstance(key, str) for key in node) and _TAG not in node:
            return {key: _split(value, _join(path, key), tensors) for key, value in node.items()}
        pairs = [
            [_split(key, "", tensors), _split(value, _join(path, key), tensors)]
            for key, value in node.items()
        ]
        return {_TAG: "dict", "items": pairs}
    raise CheckpointError(
        f"state {path or 'value'!r} is a {type(node).__name__}; a checkpoint holds tensors, "
        "arrays, numbers, strings, None, lists, tuples and dicts of these"
    )


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _store(
    node: Tensor | np.ndarray[Any, Any] | np.generic[Any], path: str, tensors: dict[str, Tensor]
) -> Json:
    name, copies = path, 1
    while name in tensors:
        copies += 1
        name = f"{path}#{copies}"
    if isinstance(node, Tensor):
        tensors[name] = node.detach()
        return {_TAG: "tensor", "name": name}
    try:
        tensors[name] = torch.from_numpy(np.array(node))
    except TypeError as error:
        raise CheckpointError(f"state {path!r} has dtype {node.dtype}: {error}") from error
    return {_TAG: "array" if isinstance(node, np.ndarray) else "scalar", "name": name}


def unflatten_tree(tensors: Mapping[str, Tensor], tree: Json) -> Any:
    """Put together what `flatten_tree` split.

    Raises:
        CheckpointError: if the JSON refers to a tensor that is not there.
    """
    if isinstance(tree, list):
        return [unflatten_tree(tensors, item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if _TAG not in tree:
        return {key: unflatten_tree(tensors, value) for key, value in tree.items()}
    kind = tree[_TAG]
    if kind == "float":
        return float(tree["value"])
    if kind in ("tuple", "dict"):
        items = [unflatten_tree(tensors, item) for item in tree["items"]]
        return tuple(items) if kind == "tuple" else dict(items)
    return _fetch(tensors, kind, tree["name"])


def _fetch(tensors: Mapping[str, Tensor], kind: str, name: str) -> object:
    if name not in tensors:
        raise CheckpointError(f"the checkpoint refers to a tensor {name!r} that it does not hold")
    if kind == "tensor":
        return tensors[name]
    array = tensors[name].numpy()
    return array if kind == "array" else array[()]
