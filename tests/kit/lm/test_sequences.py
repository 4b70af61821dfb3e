"""Batches of sequences and how they are cut into passes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esscher.errors import DataError, ShapeError
from esscher.kit.lm.language_model import CHUNK_COST, chunks_by_length, contexts_of
from esscher.kit.lm.sequences import Sequences

ROWS = st.lists(st.lists(st.integers(1, 9), max_size=6), max_size=8)


@given(ROWS, st.integers(1, 7))
def test_texts_become_sequences(rows, max_new):
    x = Sequences.of_texts(rows, end=0, max_new=max_new)
    assert x.lists() == [[*row, 0][:max_new] for row in rows]
    assert x.lists(keep_end=False) == [row[:max_new] for row in rows]
    assert x.finished.tolist() == [len(row) < max_new for row in rows]
    assert int(x.mask().sum()) == int(x.lengths.sum())


@given(ROWS, st.data())
def test_joining_parts_gives_the_whole(rows, data):
    x = Sequences.of_texts(rows, end=0, max_new=5)
    cut = data.draw(st.integers(0, len(rows)))
    parts = [x.take(torch.arange(cut)), x.take(torch.arange(cut, len(rows)))]
    joined = Sequences.join(parts)
    assert joined.lists() == x.lists()
    assert torch.equal(joined.finished, x.finished)


def test_joining_nothing_gives_nothing():
    assert Sequences.join([]).lists() == []


def test_after_puts_prompts_in_front_and_masks_what_predicts():
    x = Sequences.of_texts([[5, 6], [7], []], end=0, max_new=3)
    ids, mask = x.after([[9], [9, 1, 2], [9, 3]], pad=8)
    assert ids.tolist() == [[9, 5, 6, 8], [9, 1, 2, 7], [9, 3, 8, 8]]
    assert mask.int().tolist() == [[1, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0]]
    assert int(mask.sum()) == int(x.mask().sum())


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match=r"got \(2, 3\), \(1,\), \(2,\)"):
        Sequences(torch.zeros(2, 3), torch.zeros(1), torch.zeros(2))
    with pytest.raises(ShapeError):
        Sequences(torch.zeros(3), torch.zeros(3), torch.zeros(3))


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 50))
def test_chunks_cover_all_rows_within_the_budget(lengths, budget):
    chunks = [c.tolist() for c in chunks_by_length(torch.tensor(lengths, dtype=torch.long), budget)]
    assert sorted(i for c in chunks for i in c) == list(range(len(lengths)))
    for chunk in chunks:
        assert chunk
        assert len(chunk) == 1 or len(chunk) * max(lengths[i] for i in chunk) <= budget


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 200))
def test_no_other_split_into_runs_costs_less(lengths, budget):
    def cost(chunks):
        return sum(len(c) * max(c) + CHUNK_COST for c in chunks)

    def splits(rows):
        for k in range(1, len(rows) + 1):
            if k > 1 and k * rows[k - 1] > budget:
                return
            yield from ([rows[:k], *rest] for rest in (splits(rows[k:]) if rows[k:] else [[]]))

    found = chunks_by_length(torch.tensor(lengths), budget)
    own = cost([[lengths[i] for i in c.tolist()] for c in found])
    assert own == min(map(cost, splits(sorted(lengths))))


def test_contexts():
    assert contexts_of(None, 3) is None
    assert contexts_of("a", 3) == ["a"] * 3
    assert contexts_of(("a", "b"), 2) == ["a", "b"]
    with pytest.raises(ShapeError):
        contexts_of(["a"], 2)
    with pytest.raises(DataError, match="prompt 0 is a int"):
        contexts_of(3, 2)
