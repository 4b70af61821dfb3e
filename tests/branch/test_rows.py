"""Rows in a file that is only appended to."""

import multiprocessing
from dataclasses import replace

import pytest

from esscher.branch.rows import Journal, Row
from esscher.errors import DataError

ROW = Row("random", "x.mps", 3, "optimal", 1.5, 7, 7, 3, 40, 0.25, 0.01)


def test_rows_come_back_as_they_were(tmp_path):
    journal = Journal(tmp_path / "rows.jsonl")
    assert journal.read() == {}
    other = replace(ROW, seed=4, objective=None, fair_nodes=None, status="timelimit")
    journal.append([ROW])
    journal.append([other])
    assert list(Journal(tmp_path / "rows.jsonl").read().values()) == [ROW, other]
    assert journal.count() == 2
    assert (ROW.ended, other.ended) == (True, False)


@pytest.mark.parametrize("torn", ['{"policy": "ran', '{"policy"' + "x" * 9000])
def test_a_torn_row_is_dropped_by_readers_and_writers(tmp_path, torn):
    path = tmp_path / "rows.jsonl"
    Journal(path).append([ROW])
    whole = path.read_bytes()
    for start, seeds in ((whole, [3, 9]), (b"", [9])):
        path.write_bytes(start + torn.encode())
        assert [row.seed for row in Journal(path).read().values()] == seeds[:-1]
        Journal(path).append([replace(ROW, seed=9)])
        assert [row.seed for row in Journal(path).read().values()] == seeds
        assert path.read_bytes().count(b"\n") == len(seeds)


def append_some(path, who):
    for k in range(20):
        Journal(path).append([replace(ROW, policy=who, seed=k)])


def test_several_processes_append_at_once(tmp_path):
    path = tmp_path / "rows.jsonl"
    context = multiprocessing.get_context("spawn")
    work = [context.Process(target=append_some, args=(path, who)) for who in "ab"]
    for each in work:
        each.start()
    for each in work:
        each.join()
    assert len(Journal(path).read()) == 40


@pytest.mark.parametrize("line", ["[1]", '{"policy": 1}', "no json"])
def test_a_foreign_line_is_an_error(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        Journal(path).read()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(DataError, match="gone"):
        Journal(tmp_path / "gone" / "rows.jsonl")
