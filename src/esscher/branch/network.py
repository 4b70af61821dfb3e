"""The bipartite graph convolutional network: from an observation to one number per candidate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from esscher.branch.graphs import FEATURES, FeatureSet, GraphBatch
from esscher.branch.kernels import SLOPE
from esscher.branch.messages import sum_of_messages
from esscher.branch.observation.base import ROW_FEATURES
from esscher.errors import ConfigError

__all__ = ["BipartiteNetwork", "HalfConvolution", "NetworkConfig"]

SPREAD = 0.01
"""Standard deviation of initial weights under init "normal"."""


@dataclass(frozen=True)
class NetworkConfig:
    """The architecture.

    With 43 features, width 64 and edges "legacy" it has 70,307 parameters, as published.
    """

    features: FeatureSet = "gasse19"
    """Inputs of a column: 19 of its own, or 24 of the search tree besides ("retro43")."""
    width: int = 64
    """Units h of every layer, >= 1."""
    edges: Literal["affine", "legacy"] = "affine"
    """Coefficients enter as they are; "legacy" normalises each alone, which gives a constant."""
    output: Literal["value", "linear", "logit"] = "value"
    """Q = -LeakyReLU(z), at most about 0, as published, which hardly learns where Q is near 0 and
    z has come below it; Q = -z; or z itself."""
    head: Literal["plain", "dueling"] = "plain"
    """z of a candidate alone; or z = V(s) + A(s, a), A with mean 0 over the candidates, where V
    takes the part that is the same for all of them off A's error (Wang et al. 2016)."""
    init: Literal["normal", "uniform"] = "uniform"
    """Weights N(0, 0.01²) and biases 0, as published; or all uniform within ±1/√fan-in."""

    def __post_init__(self) -> None:
        if isinstance(self.width, bool) or not isinstance(self.width, int) or self.width < 1:
            raise ConfigError(f"NetworkConfig.width must be an integer >= 1, got {self.width!r}")
        choices = {
            "features": tuple(FEATURES),
            "edges": ("affine", "legacy"),
            "output": ("value", "linear", "logit"),
            "head": ("plain", "dueling"),
            "init": ("normal", "uniform"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"NetworkConfig.{name} must be one of {', '.join(known)}, got "
                    f"{getattr(self, name)!r}"
                )
        if self.head == "dueling" and self.output == "logit":
            raise ConfigError(
                "NetworkConfig.head='dueling' needs values, not logits: a softmax does not see V"
            )


class HalfConvolution(nn.Module):
    """Messages from one side of the graph to the other, summed.

    m_e = W LeakyReLU(LayerNorm(L x_i + R x_j + v_e w)) + b for an edge e from i to j. As the last
    map is linear, it is taken once of the sum: Σ (W z + b) = W Σ z + degree b.

    Args:
        width: h, of both sides.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.left = _linear(width, width)
        self.edge = _linear(1, width, bias=False)
        self.right = _linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.last = _linear(width, width)
        self.post = nn.LayerNorm(width)
        self.join = _linear(2 * width, width)
        self.out = _linear(width, width)

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        edges: tuple[Tensor, Tensor, Tensor],
        degree: Tensor,
    ) -> Tensor:
        """[T, h] new features of the targets.

        Args:
            source: [S, h].
            target: [T, h].
            edges: source [E], target [E] and value [E] of every edge.
            degree: [T] edges of every target.
        """
        total = sum_of_messages(
            self.left(source), self.right(target), self.edge.weight[:, 0], self.norm, edges
        )
        total = functional.linear(total, self.last.weight)
        total = torch.addcmul(total, degree[:, None], self.last.bias)
        both = torch.cat([self.post(total), target], 1)
        return cast("Tensor", self.out(functional.leaky_relu(self.join(both), SLOPE)))


class BipartiteNetwork(nn.Module):
    """Embeds rows and columns, passes messages to the rows and back, and reads off candidates.

    Only what candidates depend on is computed: the second convolution and the head leave out
    other columns. The result is that of the whole graph.

    Args:
        config: the architecture.
        rng: of the initial weights.

    Reference:
        Gasse, Chételat, Ferroni, Charlin, Lodi (2019), "Exact combinatorial optimization with graph
        convolutional neural networks"; Parsonson, Laterre, Barrett (2023), "Reinforcement learning
        for branch-and-bound optimisation using retrospective trajectories"; Wang, Schaul, Hessel,
        van Hasselt, Lanctot, de Freitas (2016), "Dueling network architectures for deep
        reinforcement learning".
    """

    def __init__(self, config: NetworkConfig, *, rng: torch.Generator) -> None:
        super().__init__()
        self.config = config
        h = config.width
        self.row_embedding = _embedding(len(ROW_FEATURES), h)
        self.column_embedding = _embedding(FEATURES[config.features], h)
        self.edge_norm = nn.LayerNorm(1) if config.edges == "legacy" else None
        self.to_rows = HalfConvolution(h)
        self.to_columns = HalfConvolution(h)
        self.head = _head(h, h)
        self.state_head = _head(h + 1, h) if config.head == "dueling" else None
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                _initialise(layer, config.init, rng)

    def forward(self, batch: GraphBatch) -> Tensor:
        """[K] Q-values or logits of all candidates of the batch."""
        rows = self.row_embedding(batch.rows)
        columns = self.column_embedding(batch.columns)
        edges = (batch.edge_column, batch.edge_row, self._edge_value(batch.edge_value))
        rows = self.to_rows(columns, rows, edges, batch.row_degree)
        mine = columns.index_select(0, batch.candidates)
        back = (batch.back_row, batch.back_candidate, self._edge_value(batch.back_value))
        mine = self.to_columns(rows, mine, back, batch.candidate_degree)
        z = cast("Tensor", self.head(mine)).squeeze(1)
        if self.state_head is not None:
            z = z + self._state_value(self.state_head, mine, z, batch)
        if self.config.output == "logit":
            return z
        return -z if self.config.output == "linear" else -functional.leaky_relu(z, SLOPE)

    def _state_value(
        self, head: nn.Sequential, mine: Tensor, advantage: Tensor, batch: GraphBatch
    ) -> Tensor:
        """[K] V(s) less the mean advantage, of the graph of every candidate.

        V sees the mean of the candidates' features and the logarithm of their number.
        """
        graph = torch.div(batch.cell, batch.widest, rounding_mode="floor")
        count = torch.bincount(graph, minlength=len(batch)).to(mine.dtype)
        mean = mine.new_zeros(len(batch), mine.shape[1]).index_add(0, graph, mine)
        seen = torch.cat([mean / count[:, None], count.log()[:, None]], 1)
        total = advantage.new_zeros(len(batch)).index_add(0, graph, advantage)
        value = cast("Tensor", head(seen)).squeeze(1) - total / count
        return value.index_select(0, graph)

    def _edge_value(self, value: Tensor) -> Tensor:
        if self.edge_norm is None:
            return value
        return cast("Tensor", self.edge_norm(value[:, None])).squeeze(1)


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    # skip_init leaves the global generator alone.
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)  # type: ignore[no-untyped-call]
    return layer


def _head(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        _linear(inputs, width),
        nn.LeakyReLU(SLOPE),
        _linear(width, width),
        nn.LeakyReLU(SLOPE),
        _linear(width, 1),
    )


def _embedding(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(inputs),
        _linear(inputs, width),
        nn.LeakyReLU(SLOPE),
        _linear(width, width),
        nn.LeakyReLU(SLOPE),
    )


@torch.no_grad()
def _initialise(layer: nn.Linear, init: str, rng: torch.Generator) -> None:
    if init == "normal":
        layer.weight.normal_(0.0, SPREAD, generator=rng)
        if layer.bias is not None:
            layer.bias.zero_()
        return
    bound = 1 / math.sqrt(layer.in_features)
    layer.weight.uniform_(-bound, bound, generator=rng)
    if layer.bias is not None:
        layer.bias.uniform_(-bound, bound, generator=rng)
