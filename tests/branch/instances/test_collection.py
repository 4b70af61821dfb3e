"""Folders of instances and their index."""

import json

import highspy
import pytest

from esscher.branch.instances.collection import INDEX, Collection, generate
from esscher.branch.instances.files import read_milp
from esscher.branch.instances.kind import instance
from esscher.errors import ConfigError, DataError
from tests.branch.instances.test_kind import SMALL, same, scip_optimum


@pytest.mark.parametrize("name", sorted(SMALL))
def test_what_is_generated_is_read_again(name, tmp_path):
    made = generate(SMALL[name], tmp_path / "some" / "folder", 3, 11, first=2)
    found = Collection.read(tmp_path / "some" / "folder")
    assert found == made
    assert found.numbers == (2, 3, 4)
    assert found.kind == SMALL[name]
    for i, path in zip(found.numbers, found.paths, strict=True):
        assert same(read_milp(path), instance(SMALL[name], 11, i))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_highs_finds_the_optimum_of_scip_in_stored_instances(name, tmp_path):
    made = generate(SMALL[name], tmp_path, 20, 5)
    for i, path in zip(made.numbers, made.paths, strict=True):
        solver = highspy.Highs()
        solver.silent()
        solver.readModel(str(path))
        solver.setOptionValue("mip_rel_gap", 0.0)
        solver.run()
        value = solver.getInfo().objective_function_value
        assert value == pytest.approx(scip_optimum(instance(SMALL[name], 5, i)), rel=1e-6)


def test_the_index_says_how(tmp_path):
    generate(SMALL["setcover"], tmp_path, 1, 0, ending=".lp")
    index = json.loads((tmp_path / INDEX).read_text())
    assert index == {
        "class": "setcover",
        "parameters": {"n_rows": 30, "n_cols": 50, "density": 0.1, "max_coef": 100},
        "seed": 0,
        "instances": [{"i": 0, "file": "setcover-30x50-0-0.lp"}],
    }


def test_a_folder_is_not_overwritten(tmp_path):
    generate(SMALL["setcover"], tmp_path, 1, 0)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(DataError, match="holds instances already"):
        generate(SMALL["auction"], tmp_path, 1, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


class Stranger:
    name = "stranger"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"count": 0}, ConfigError, "count"),
        ({"first": -1}, ConfigError, "first"),
        ({"seed": -1}, ConfigError, "seed"),
        ({"kind": Stranger()}, ConfigError, "Stranger is none of auction, "),
        ({"ending": ".txt"}, DataError, r"\.mps or \.lp"),
    ],
)
def test_what_cannot_be_generated(arguments, error, message, tmp_path):
    given = {"kind": SMALL["setcover"], "folder": tmp_path, "count": 1, "seed": 0, **arguments}
    with pytest.raises(error, match=message):
        generate(**given)
    assert not (tmp_path / INDEX).exists()


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make"):
        generate(SMALL["setcover"], tmp_path / "file", 1, 0)


def test_a_folder_without_an_index(tmp_path):
    with pytest.raises(DataError, match=r"has no instances\.json"):
        Collection.read(tmp_path)


def change(index, **parts):
    return {**index, **parts}


@pytest.mark.parametrize(
    "damage",
    [
        lambda index: {},
        lambda index: [],
        lambda index: change(index, **{"class": "knapsack"}),
        lambda index: change(index, parameters={"rows": 3}),
        lambda index: change(index, parameters={"n_rows": 0}),
        lambda index: change(index, seed="none"),
        lambda index: change(index, instances=[{"i": 0}]),
    ],
)
def test_a_damaged_index_is_named(damage, tmp_path):
    generate(SMALL["setcover"], tmp_path, 1, 0)
    path = tmp_path / INDEX
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(DataError, match=INDEX):
        Collection.read(tmp_path)


def test_a_lost_file_is_named(tmp_path):
    made = generate(SMALL["setcover"], tmp_path, 2, 0)
    made.paths[1].unlink()
    with pytest.raises(DataError, match=r"lacks 1 of its instances, such as setcover-30x50-0-1"):
        Collection.read(tmp_path)
