"""Artificial observations, and the network written out plainly."""

import numpy as np
import torch
from torch.nn import functional

from esscher.branch.observation.base import Observation


def observation(rng, *, rows=6, columns=8, edges=15, candidates=3, tree=24):
    """Random features and a random graph, edges ascending by row, each at most once."""
    places = np.sort(rng.choice(rows * columns, size=min(edges, rows * columns), replace=False))
    return Observation(
        rng.normal(size=(rows, 5)).astype(np.float32),
        rng.normal(size=(columns, 19)).astype(np.float32),
        rng.normal(size=tree).astype(np.float32),
        (places // columns).astype(np.int32),
        (places % columns).astype(np.int32),
        rng.normal(size=len(places)).astype(np.float32),
        rng.choice(columns, size=candidates, replace=False).astype(np.int32),
    )


def plain_scores(network, seen):
    """[K] by the formulas of the whole graph: every edge's message, every column, one graph."""
    columns = torch.from_numpy(seen.columns.astype(np.float32))
    if network.config.features == "retro43":
        tree = torch.from_numpy(seen.tree.astype(np.float32))
        columns = torch.cat([columns, tree.expand(len(columns), -1)], 1)
    x_rows = network.row_embedding(torch.from_numpy(seen.rows.astype(np.float32)))
    x_columns = network.column_embedding(columns)
    value = torch.from_numpy(seen.edge_value.copy())[:, None]
    if network.edge_norm is not None:
        value = network.edge_norm(value)
    at_row, at_column = (torch.from_numpy(seen[i].astype(np.int64)) for i in (3, 4))
    x_rows = _half(network.to_rows, x_columns, x_rows, (at_column, at_row, value))
    x_columns = _half(network.to_columns, x_rows, x_columns, (at_row, at_column, value))
    mine = x_columns[torch.from_numpy(seen.candidates.astype(np.int64))]
    z = network.head(mine)[:, 0]
    if network.config.head == "dueling":
        pooled = torch.cat([mine.mean(0), torch.tensor([float(np.log(len(mine)))])])
        z = z - z.mean() + network.state_head(pooled)
    values = {"value": -functional.leaky_relu(z, 0.01), "linear": -z, "logit": z}
    return values[network.config.output]


def _half(conv, source, target, edges):
    i, j, value = edges
    x = conv.left(source[i]) + conv.edge(value) + conv.right(target[j])
    message = conv.last(functional.leaky_relu(conv.norm(x), 0.01))
    total = torch.zeros_like(target).index_add(0, j, message)
    both = torch.cat([conv.post(total), target], 1)
    return conv.out(functional.leaky_relu(conv.join(both), 0.01))
