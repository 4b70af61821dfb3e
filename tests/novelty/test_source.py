"""Rows by parts: every row once, in order or shuffled, and named where one is bad."""

import numpy as np
import pytest

from esscher.errors import DataError, ShapeError
from esscher.novelty.source import ArraySource, Minibatches, ParquetSource, blocks, open_source


def rows(n=1000, p=3):
    return np.arange(n * p, dtype=float).reshape(n, p)


@pytest.mark.parametrize("chunk", [1, 7, 256, 5000])
@pytest.mark.parametrize("size", [1, 64, 999, 1000, 4096])
def test_blocks_are_all_rows_in_order(chunk, size):
    y = rows()
    found = list(blocks(ArraySource(y, chunk), size))
    assert np.array_equal(np.concatenate([b for _, b in found]), y)
    assert [start for start, _ in found] == np.cumsum(
        [0, *(len(b) for _, b in found[:-1])]
    ).tolist()
    assert max(len(b) for _, b in found) <= size


@pytest.mark.parametrize(
    ("batch", "pool", "chunk"), [(100, 400, 10), (64, 64, 16), (5000, 5000, 7)]
)
def test_an_epoch_holds_every_row_once_and_mixes_them(batch, pool, chunk):
    y = rows()
    minibatches = Minibatches(ArraySource(y, chunk), batch=batch, pool=pool, seed=1)
    for epoch in (0, 1):
        found = [minibatches.rows(epoch, n) for n in range(minibatches.count(epoch))]
        assert np.array_equal(np.sort(np.concatenate(found)[:, 0]), y[:, 0])
        assert max(map(len, found)) <= 2 * batch
    if pool >= 40 * chunk and len(found) > 1:
        # A sorted file: each minibatch still comes from all over it.
        spread = [part[:, 0].std() / y[:, 0].std() for part in found]
        assert min(spread) > 0.5


def test_a_minibatch_depends_on_seed_epoch_and_number_only():
    y = rows()
    one = Minibatches(ArraySource(y, 10), batch=50, pool=200, seed=3)
    two = Minibatches(ArraySource(y, 10), batch=50, pool=200, seed=3)
    wanted = [[one.rows(e, n) for n in range(one.count(e))] for e in (0, 1)]
    for e, n in ((1, 7), (0, 19), (0, 0), (1, 8)):
        assert np.array_equal(two.rows(e, n), wanted[e][n])
    assert not np.array_equal(wanted[0][0], wanted[1][0])
    other = Minibatches(ArraySource(y, 10), batch=50, pool=200, seed=4)
    assert not np.array_equal(other.rows(0, 0), wanted[0][0])


def test_files_are_read_by_parts(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    y = rows()
    np.save(tmp_path / "y.npy", y.astype(np.float32))
    table = pa.table({"a": y[:, 0], "text": ["x"] * 1000, "b": y[:, 1].astype(int), "c": y[:, 2]})
    pq.write_table(table, tmp_path / "y.parquet", row_group_size=300)
    by_name = open_source(tmp_path / "y.parquet", columns=["a", "b", "c"])
    assert by_name.bounds.tolist() == [0, 300, 600, 900, 1000]
    for source in (by_name, open_source(str(tmp_path / "y.npy"))):
        assert (len(source), source.dim) == (1000, 3)
        assert np.array_equal(np.concatenate([b for _, b in blocks(source, 128)]), y)
    scaled = open_source(y, centre=np.array([1.0, 2, 3]), unit=np.array([2.0, 4, 8]))
    assert np.array_equal(scaled.read(0)[0], (y[0] - [1, 2, 3]) / [2, 4, 8])
    assert open_source(by_name) is by_name
    with pytest.raises(DataError, match="has no column 'd'; it has: a, text, b, c"):
        ParquetSource(tmp_path / "y.parquet", ["a", "d"])
    with pytest.raises(DataError, match="are no numbers"):
        ParquetSource(tmp_path / "y.parquet").read(0)


def test_what_cannot_be_read(tmp_path):
    bad = rows()
    bad[777, 1] = np.nan
    with pytest.raises(DataError, match="row 777 of the batch holds nan in column 1"):
        list(blocks(ArraySource(bad), 100))
    with pytest.raises(DataError, match="at least one row"):
        ArraySource(rows()[:0])
    with pytest.raises(ShapeError, match=r"rows must be \[M, p\]"):
        ArraySource(np.zeros(5))
    for name in ("y.parquet", "y.npy"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(DataError, match="cannot read"):
            open_source(tmp_path / name)
