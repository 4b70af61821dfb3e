"""Tables from files, and what is wrong with them."""

import numpy as np
import pytest

from esscher.errors import DataError
from esscher.kit.data.table import read_table, write_table


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_what_is_written_is_read(name, tmp_path):
    rows = [("tea", 1.5, 2), ("cocoa, hot", -3e-9, 7)]
    write_table(tmp_path / name, ["kind", "x", "y"], rows)
    table = read_table(tmp_path / name)
    assert table.names == ("kind", "x", "y")
    assert table.text("kind").tolist() == ["tea", "cocoa, hot"]
    assert np.array_equal(table.numbers(["y", "x"]), [[2, 1.5], [7, -3e-9]])


def test_a_byte_order_mark_and_spaces_in_the_header_are_no_part_of_it(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\ufeffx, y\n1,2\n\n3,4\n", encoding="utf-8")
    assert np.array_equal(read_table(path).numbers(["x", "y"]), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; the first line must name"),
        ("x,y\n", "a header and no rows"),
        ("x,y\n1,2\n3\n", "row 2 has 1 cells, the header names 2 columns"),
        ("x,x\n1,2\n", "several columns called 'x'"),
        ("x,y\n1,\xff\n", "cannot read"),
    ],
)
def test_files_that_are_no_tables(text, message, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read_table(path)


@pytest.mark.parametrize("cell", ["", "many", "nan", "inf"])
def test_cells_that_are_no_numbers_are_named(cell, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"x,y\n1,2\n3,{cell}\n")
    with pytest.raises(DataError, match=rf"column 'y' holds '{cell}' in row 2"):
        read_table(path).numbers(["x", "y"])


def test_columns_that_are_not_there(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("weight,height\n1,2\n,3\n")
    with pytest.raises(DataError, match="no column 'wieght'; did you mean 'weight'"):
        read_table(path).text("wieght")
    with pytest.raises(DataError, match="'weight' is empty in row 2"):
        read_table(path).text("weight")
    for name in ("nowhere.csv", "nowhere.parquet"):
        with pytest.raises(DataError, match="cannot read"):
            read_table(tmp_path / name)


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match="cannot write"):
        write_table(tmp_path / "gone" / "t.csv", ["x"], [[1]])
