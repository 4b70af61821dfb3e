"""A network with its weights folded, for one observation at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from esscher.branch.kernels import SLOPE, Kernels
from esscher.branch.network import BipartiteNetwork, HalfConvolution
from esscher.branch.observation.base import Observation
from esscher.errors import ShapeError

__all__ = ["FoldedNetwork"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Exact = NDArray[np.float64]
Affine = tuple[Exact, Exact]


class _Convolution(NamedTuple):
    """A half-convolution after folding; maps are [in, out].

    Attributes:
        left: of sources, mean zero along outputs.
        both: [h, 2 h] of targets, to the message, mean zero, and to the join.
        bias: of messages, mean zero.
        edge: [h] of the coefficient, mean zero.
        gain, shift: of the messages' norm.
        last, last_bias: of their sum, mean zero.
        join, join_bias: of the normalised sum.
    """

    left: Floats
    both: Floats
    bias: Floats
    edge: Floats
    gain: Floats
    shift: Floats
    last: Floats
    last_bias: Floats
    join: Floats
    join_bias: Floats


class _Head(NamedTuple):
    """Three maps of a head, [in, out]; the last is one column with its bias below."""

    first: Floats
    first_bias: Floats
    second: Floats
    second_bias: Floats
    last: Floats


class FoldedNetwork:
    """The network's arithmetic on one observation, in numpy and compiled loops.

    Gains and shifts of norms go into the map that follows, two maps without anything between them
    are one, and means that a norm would take off are taken off weights beforehand. It differs from
    the network's own forward in the order of rounding only.

    Args:
        network: whose weights are copied.
        kernels: the loops.
    """

    def __init__(self, network: BipartiteNetwork, kernels: Kernels) -> None:
        self.kernels, self.config = kernels, network.config
        self.constant: float | None = None
        self.nothing = np.zeros(network.config.width, np.float32)
        if network.edge_norm is not None:
            self.constant = network.edge_norm.bias.item()
        self.rows = _embedding(network.row_embedding)
        self.columns = _embedding(network.column_embedding)
        self.to_rows = _fold(network.to_rows)
        self.to_columns = _fold(network.to_columns, before=network.to_rows.out)
        out = _pair(network.to_columns.out)
        self.head = _folded_head(network.head, out)
        self.state_head = None
        if network.state_head is not None:
            self.state_head = _folded_head(network.state_head, out)

    def __call__(self, seen: Observation) -> Floats:
        """[K] scores of the candidates.

        Raises:
            ShapeError: if the observation lacks features of the network.
        """
        rows = self._embedded(_floats(seen.rows), None, self.rows)
        tree = seen.tree if self.config.features == "retro43" else None
        columns = self._embedded(_floats(seen.columns), tree, self.columns)
        value = _floats(seen.edge_value)
        if self.constant is not None:
            value = np.full_like(value, self.constant)
        rows = self._convolved(
            self.to_rows, columns, rows, (seen.edge_column, seen.edge_row, value)
        )
        end = np.empty(len(value), np.int32)
        self.kernels.ends(seen.edge_column, seen.candidates, len(columns), end)
        mine = columns[seen.candidates]
        mine = self._convolved(self.to_columns, rows, mine, (seen.edge_row, end, value))
        z = self._read(self.head, mine)
        if self.state_head is not None:
            pooled = np.empty((1, mine.shape[1] + 1), np.float32)
            self.kernels.pool(mine, pooled)
            z += self._read(self.state_head, pooled)[0] - z.sum() / np.float32(len(z))
        if self.config.output == "logit":
            return z
        return -z if self.config.output == "linear" else -np.where(z > 0, z, np.float32(SLOPE) * z)

    def _read(self, head: _Head, x: Floats) -> Floats:
        """[n] numbers of features [n, inputs]."""
        y = x @ head.first
        self.kernels.leaky(y, head.first_bias)
        numbers = np.empty(len(x), np.float32)
        self.kernels.read(y @ head.second, head.second_bias, head.last, numbers)
        return numbers

    def _embedded(self, x: Floats, tree: Floats | None, maps: tuple[Floats, ...]) -> Floats:
        first, second, bias = maps
        width = len(first) - 1
        d = x.shape[1]
        constant = 0 if tree is None else len(tree)
        if d + constant != width:
            raise ShapeError(f"the network takes {width} features, the observation has {d}")
        out = np.empty((len(x), d + 1 + 2 * (constant > 0)), np.float32)
        centre = spread = 0.0
        if tree is not None:
            centre = float(tree.mean(dtype=np.float64))
            apart = tree - centre
            spread = float(apart @ apart)
            rest = first[d:width]
            first = np.vstack([first[:d], _single(apart @ rest), rest.sum(0), first[width:]])
        self.kernels.standardise(x, centre, spread, width, out)
        y = out @ first
        self.kernels.leaky(y, self.nothing)
        y = y @ second
        self.kernels.leaky(y, bias)
        return y

    def _convolved(
        self,
        conv: _Convolution,
        source: Floats,
        target: Floats,
        edges: tuple[Ints, Ints, Floats],
    ) -> Floats:
        """LeakyReLU of the join; the map after it is folded into what follows."""
        kernels = self.kernels
        left, both = source @ conv.left, target @ conv.both
        total = np.empty((len(target), len(conv.gain)), np.float32)
        degree = np.empty(len(target), np.float32)
        kernels.prepare(both, conv.bias, edges[1], total, degree)
        kernels.forward((left, both), (conv.edge, conv.gain, conv.shift), edges, total)
        total = total @ conv.last
        kernels.standardise_sum(total, degree, conv.last_bias)
        joined: Floats = total @ conv.join
        kernels.join(joined, both, conv.join_bias)
        return joined


def _fold(conv: HalfConvolution, before: nn.Linear | None = None) -> _Convolution:
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
    return _Convolution(*map(_single, arrays))


def _folded_head(layers: nn.Sequential, out: Affine) -> _Head:
    """A head after the map `out`: both are linear, and taken at once.

    Inputs of the head past those of `out` stay as they are.
    """
    first, second, third = (_pair(layers[i]) for i in (0, 2, 4))
    h = out[0].shape[1]
    weight, bias = _product(out, (first[0][:h], first[1]))
    weight = np.vstack([weight, first[0][h:]])
    last = np.append(third[0][:, 0], third[1])
    return _Head(*map(_single, (weight, bias, *second, last)))


def _embedding(layers: nn.Sequential) -> tuple[Floats, Floats, Floats]:
    """First map with the norm's gain in it and the bias below, second map, its bias."""
    norm, (first, bias), second = layers[0], _pair(layers[1]), _pair(layers[3])
    gain, shift = _pair(norm)
    folded = np.vstack([gain[:, None] * first, (bias + shift @ first)[None]])
    return _single(folded), _single(second[0]), _single(second[1])


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
