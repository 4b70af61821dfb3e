"""A network with its weights folded, for one observation at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from esscher.branch.kernels import SLOPE, compiled
from esscher.branch.network import BipartiteNetwork, HalfConvolution
from esscher.branch.observation.base import Observation
from esscher.branch.weights import Convolution, Embedding, Graph, Head, Weights
from esscher.errors import ShapeError

__all__ = ["FoldedNetwork"]

Floats = NDArray[np.float32]
Exact = NDArray[np.float64]
Affine = tuple[Exact, Exact]


class FoldedNetwork:
    """The network's arithmetic on one observation, compiled.

    Gains and shifts of norms go into the map that follows, two maps without anything between them
    are one, and means that a norm would take off are taken off weights beforehand. It differs from
    the network's own forward in the order of rounding only.

    Args:
        network: whose weights are copied.

    Raises:
        MissingExtra: without numba.
    """

    def __init__(self, network: BipartiteNetwork) -> None:
        self.config = network.config
        self._constant: float | None = None
        if network.edge_norm is not None:
            self._constant = network.edge_norm.bias.item()
        out = _pair(network.to_columns.out)
        head = _folded_head(network.head, out)
        state = network.state_head
        self._with_state = state is not None
        self._weights = Weights(
            _embedding(network.row_embedding),
            _embedding(network.column_embedding),
            _fold(network.to_rows),
            _fold(network.to_columns, before=network.to_rows.out),
            head,
            head if state is None else _folded_head(state, out),
        )
        self._width = (0,) * network.config.width
        self._score = compiled().score

    def __call__(self, seen: Observation) -> Floats:
        """[K] scores of the candidates.

        Raises:
            ShapeError: if the observation lacks features of the network.
        """
        tree = seen.tree if self.config.features == "retro43" else seen.tree[:0]
        graph = Graph(
            _floats(seen.rows), _floats(seen.columns), _floats(tree),
            seen.edge_row, seen.edge_column, self._values(seen), seen.candidates,
        )  # fmt: skip
        _check(graph.rows.shape[1], self._weights.rows)
        _check(graph.columns.shape[1] + len(tree), self._weights.columns)
        z = np.empty(len(seen.candidates), np.float32)
        self._score(graph, self._weights, self._with_state, self._width, z)
        if self.config.output == "logit":
            return z
        return -z if self.config.output == "linear" else -np.where(z > 0, z, np.float32(SLOPE) * z)

    def _values(self, seen: Observation) -> Floats:
        value = _floats(seen.edge_value)
        return value if self._constant is None else np.full_like(value, self._constant)


def _check(found: int, maps: Embedding) -> None:
    """Compiled, nothing else would."""
    if found != len(maps.first) - 1:
        raise ShapeError(
            f"the network takes {len(maps.first) - 1} features, the observation has {found}"
        )


def _fold(conv: HalfConvolution, before: nn.Linear | None = None) -> Convolution:
    h = conv.right.out_features
    left, left_bias = _pair(conv.left)
    if before is not None:
        left, left_bias = _product(_pair(before), (left, left_bias))
    right, edge = _exact(conv.right.weight).T, _exact(conv.edge.weight)[:, 0]
    last, last_bias = _pair(conv.last)
    join, join_bias = _pair(conv.join)
    gain, shift = _exact(conv.post.weight), _exact(conv.post.bias)
    arrays = (
        _centred(left),
        np.hstack([_centred(right), join[h:]]),
        _centred(left_bias),
        _centred(edge),
        _exact(conv.norm.weight),
        _exact(conv.norm.bias),
        _centred(last),
        _centred(last_bias),
        gain[:, None] * join[:h],
        join_bias + shift @ join[:h],
    )
    return Convolution(*map(_single, arrays))


def _folded_head(layers: nn.Sequential, out: Affine) -> Head:
    """A head after the map `out`: both are linear, and taken at once.

    Inputs of the head past those of `out` stay as they are.
    """
    first, second, third = (_pair(layers[i]) for i in (0, 2, 4))
    h = out[0].shape[1]
    weight, bias = _product(out, (first[0][:h], first[1]))
    weight = np.vstack([weight, first[0][h:]])
    last = np.append(third[0][:, 0], third[1])
    return Head(*map(_single, (weight, bias, *second, last)))


def _embedding(layers: nn.Sequential) -> Embedding:
    """First map with the norm's gain in it and the bias below, second map, its bias."""
    norm, (first, bias), second = layers[0], _pair(layers[1]), _pair(layers[3])
    gain, shift = _pair(norm)
    folded = np.vstack([gain[:, None] * first, (bias + shift @ first)[None]])
    return Embedding(_single(folded), _single(second[0]), _single(second[1]))


def _product(first: Affine, second: Affine) -> Affine:
    """Two maps x A + b, one after the other."""
    return first[0] @ second[0], first[1] @ second[0] + second[1]


def _pair(layer: nn.Module) -> Affine:
    """A of [in, out] and b of a linear layer; gain and shift of a norm."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    return _exact(weight).T, _exact(bias)


def _exact(tensor: Tensor) -> Exact:
    return tensor.detach().cpu().double().numpy()


def _centred(x: Exact) -> Exact:
    centred: Exact = x - x.mean(-1, keepdims=True)
    return centred


def _single(x: Exact) -> Floats:
    return np.ascontiguousarray(x, dtype=np.float32)


def _floats(x: NDArray[np.generic]) -> Floats:
    return np.ascontiguousarray(x, dtype=np.float32)
