"""What the compiled score of a network takes: an observation, and weights after folding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Convolution", "Embedding", "Graph", "Head", "Weights"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


class Graph(NamedTuple):
    """An observation as the compiled function takes it; the tree's features may be none."""

    rows: Floats
    columns: Floats
    tree: Floats
    edge_row: Ints
    edge_column: Ints
    edge_value: Floats
    candidates: Ints


class Embedding(NamedTuple):
    """Two maps after a norm, [in, out].

    Attributes:
        first: with the norm's gain in it and its bias below.
        second, bias: of the second map.
    """

    first: Floats
    second: Floats
    bias: Floats


class Convolution(NamedTuple):
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


class Head(NamedTuple):
    """Three maps, [in, out]; the last is one column with its bias below."""

    first: Floats
    first_bias: Floats
    second: Floats
    second_bias: Floats
    last: Floats


class Weights(NamedTuple):
    """Of a whole network; `state` stands for its head of the state, where it has one."""

    rows: Embedding
    columns: Embedding
    to_rows: Convolution
    to_columns: Convolution
    head: Head
    state: Head
