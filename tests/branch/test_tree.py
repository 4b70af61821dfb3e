"""The file of a recorded tree."""

import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given

from esscher.branch.tree import SearchTree
from esscher.errors import DataError
from tests.branch.trees import by_hand, grow, search_trees


def assert_same(one, other):
    for field in fields(SearchTree):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            np.testing.assert_array_equal(a, b, field.name)
        else:
            assert a == b, field.name
            assert type(a) is type(b), field.name


@pytest.mark.parametrize("tree", [by_hand(), by_hand(stopped=True), grow([])])
def test_a_tree_comes_back_with_its_infinities_and_gaps(tree, tmp_path):
    tree.save(tmp_path / "tree.json")
    assert_same(SearchTree.load(tmp_path / "tree.json"), tree)
    json.loads((tmp_path / "tree.json").read_text(), parse_constant=pytest.fail)


@given(search_trees())
def test_every_tree_comes_back(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("tree") / "tree.json"
    tree.save(path)
    assert_same(SearchTree.load(path), tree)


def test_the_file_has_plain_numbers_null_and_infinities_as_text(tmp_path):
    tree = by_hand()
    assert np.isnan(tree.branch_value[0])
    assert tree.open_bound[0] == -np.inf
    tree.save(tmp_path / "tree.json")
    rows = json.loads((tmp_path / "tree.json").read_text())
    assert rows["branch_value"][:2] == [None, 0.0]
    assert rows["open_bound"][:2] == ["-inf", 10.0]
    assert rows["bound"][11:13] == ["inf", 16.0]
    assert rows["closed"][5:7] == [False, True]
    assert (rows["complete"], rows["names"]) == (True, ["x0"])


@pytest.mark.parametrize("field", [field.name for field in fields(SearchTree)])
def test_a_missing_field_is_named(field, tmp_path):
    path = tmp_path / "tree.json"
    by_hand().save(path)
    rows = json.loads(path.read_text())
    del rows[field]
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=field):
        SearchTree.load(path)


def test_what_is_no_json_is_refused(tmp_path):
    path = tmp_path / "tree.json"
    path.write_text("{")
    with pytest.raises(DataError, match="no recorded tree"):
        SearchTree.load(path)


def test_visited_nodes_come_in_the_order_of_decisions():
    tree = by_hand()
    assert tree.visited.tolist() == [0, 2, 1, 4, 3, 7, 5, 9, 8, 10, 6]
    assert len(tree) == 23
