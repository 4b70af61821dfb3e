"""Batching: numbers through all graphs, and back to tables by graph."""

import numpy as np
import pytest
import torch

from esscher.branch.graphs import FEATURES, collate
from esscher.errors import DataError, ShapeError
from tests.branch.graphs import observation


def test_two_graphs_by_hand():
    rng = np.random.default_rng(0)
    first = observation(rng, rows=2, columns=3, edges=6, candidates=2)._replace(
        edge_row=np.array([0, 0, 1], np.int32),
        edge_column=np.array([0, 2, 1], np.int32),
        edge_value=np.array([1, 2, 3], np.float32),
        candidates=np.array([2, 0], np.int32),
    )
    second = observation(rng, rows=1, columns=2, edges=2, candidates=1)._replace(
        edge_row=np.array([0, 0], np.int32),
        edge_column=np.array([0, 1], np.int32),
        edge_value=np.array([4, 5], np.float32),
        candidates=np.array([1], np.int32),
    )
    batch = collate([first, second], "gasse19")
    assert len(batch) == 2
    assert batch.edge_row.tolist() == [0, 0, 1, 2, 2]
    assert batch.edge_column.tolist() == [0, 2, 1, 3, 4]
    assert batch.edge_value.tolist() == [1, 2, 3, 4, 5]
    assert batch.row_degree.tolist() == [2, 1, 2]
    assert batch.candidates.tolist() == [2, 0, 4]
    assert batch.back_row.tolist() == [0, 0, 2]
    assert batch.back_candidate.tolist() == [1, 0, 2]
    assert batch.back_value.tolist() == [1, 2, 5]
    assert batch.candidate_degree.tolist() == [1, 1, 1]
    scores = torch.tensor([7.0, 8.0, 9.0])
    assert batch.table(scores).tolist() == [[7, 8], [9, -np.inf]]
    assert batch.chosen(scores, torch.tensor([1, 0])).tolist() == [8, 9]


def test_the_trees_features_go_to_every_column():
    rng = np.random.default_rng(1)
    seen = [observation(rng, columns=4), observation(rng, columns=5)]
    batch = collate(seen, "retro43")
    assert batch.columns.shape == (9, FEATURES["retro43"])
    assert (batch.columns[3, 19:].numpy() == seen[0].tree).all()
    assert (batch.columns[4, 19:].numpy() == seen[1].tree).all()
    assert (collate(seen, "gasse19").columns.numpy() == batch.columns[:, :19].numpy()).all()


def test_half_precision_comes_out_single():
    seen = observation(np.random.default_rng(2))
    half = seen._replace(rows=seen.rows.astype(np.float16), columns=seen.columns.astype(np.float16))
    assert collate([half], "gasse19").columns.dtype == torch.float32


def test_what_does_not_fit_is_refused():
    rng = np.random.default_rng(3)
    with pytest.raises(DataError, match="one observation"):
        collate([], "gasse19")
    with pytest.raises(DataError, match="observation 1 of the batch has no candidates"):
        collate([observation(rng), observation(rng, candidates=0)], "gasse19")
    with pytest.raises(ShapeError, match="24 tree features"):
        collate([observation(rng, tree=0)], "retro43")
    seen = observation(rng)
    with pytest.raises(ShapeError, match="19 features per column, got 18"):
        collate([seen._replace(columns=seen.columns[:, :18])], "gasse19")
