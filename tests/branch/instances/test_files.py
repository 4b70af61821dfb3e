"""Programs in files: what is written is read again, and damage is named."""

import gzip
import sys

import highspy
import numpy as np
import pyscipopt
import pytest
from scipy import sparse

from esscher.branch.instances.files import milp_of, read_milp, read_model, write_milp
from esscher.branch.instances.kind import instance
from esscher.branch.instances.mps import mps_text
from esscher.branch.milp import Milp
from esscher.errors import DataError, MissingExtra
from tests.branch.brute import enumerate_optimum, random_milp
from tests.branch.instances.test_kind import SMALL, same, scip_optimum


def odd(**changes):
    """A row of every kind, a bound of every kind, and numbers of 17 digits."""
    inf = np.inf
    rows = [
        [1, 0, 2, 0, 0, 0], [0, -1 / 7, 0, 1, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 1, 0, 0, 3],
        [0, 0, 0, 0, 1, 1],
    ]  # fmt: skip
    fields = {
        "objective": np.array([0.1 + 0.2, -1.0 / 3.0, 0.0, 2.5e-9, 7.0, -1.0]),
        "matrix": sparse.csr_array(np.array(rows)),
        "row_low": np.array([-inf, 1.0, -2.0, 0.5, -1.0]),
        "row_high": np.array([4.0, inf, -2.0, 8.5, 0.0]),
        "low": np.array([0.0, -inf, -5.0, 0.0, -inf, 2.0]),
        "high": np.array([1.0, inf, -1.0, inf, -3.0, 2.0]),
        "integer": np.array([True, False, True, True, False, True]),
        "name": "odd",
    }
    return Milp(**{**fields, **changes})


@pytest.mark.parametrize("name", sorted(SMALL))
def test_instances_are_read_as_they_were(name, tmp_path):
    milp = instance(SMALL[name], 5, 0)
    write_milp(tmp_path / "one.mps", milp)
    found = read_milp(tmp_path / "one.mps")
    assert same(found, milp)
    assert found.name == "one"


@pytest.mark.parametrize("maximise", [False, True])
def test_every_kind_of_row_and_bound_is_kept(maximise, tmp_path):
    write_milp(tmp_path / "odd.mps", odd(maximise=maximise))
    assert same(read_milp(tmp_path / "odd.mps"), odd(maximise=maximise))


@pytest.mark.parametrize("seed", range(10))
def test_highs_reads_the_same_program(seed, tmp_path):
    milp = random_milp(np.random.default_rng(seed), n=5, continuous=2)
    write_milp(tmp_path / "random.mps", milp)
    solver = highspy.Highs()
    solver.silent()
    solver.readModel(str(tmp_path / "random.mps"))
    solver.run()
    value = solver.getInfo().objective_function_value
    assert value == pytest.approx(enumerate_optimum(milp).value, abs=1e-6)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_lp_format_holds_the_same_program(name, tmp_path):
    milp = instance(SMALL[name], 5, 0)
    write_milp(tmp_path / "one.lp", milp)
    assert scip_optimum(read_milp(tmp_path / "one.lp")) == pytest.approx(scip_optimum(milp))


def test_the_same_tree_from_a_file(tmp_path):
    milp = instance(SMALL["setcover"], 1, 0)
    write_milp(tmp_path / "one.mps", milp)
    counts = []
    for program in (milp, read_milp(tmp_path / "one.mps")):
        model = program.to_scip()
        model.setPresolve(pyscipopt.SCIP_PARAMSETTING.OFF)
        model.setSeparating(pyscipopt.SCIP_PARAMSETTING.OFF)
        model.setHeuristics(pyscipopt.SCIP_PARAMSETTING.OFF)
        model.optimize()
        counts.append((model.getNTotalNodes(), model.getNLPIterations()))
    assert counts[0] == counts[1]


def test_packed_files_and_the_other_formats(tmp_path):
    milp = instance(SMALL["facility"], 0, 0)
    (tmp_path / "one.mps.gz").write_bytes(gzip.compress(mps_text(milp).encode()))
    assert same(read_milp(tmp_path / "one.mps.gz"), milp)
    assert read_milp(tmp_path / "one.mps.gz").name == "one"
    milp.to_scip().writeProblem(str(tmp_path / "one.cip"), verbose=False)
    assert scip_optimum(read_milp(tmp_path / "one.cip")) == pytest.approx(scip_optimum(milp))


def test_a_model_is_read_silently(tmp_path, capfd):
    write_milp(tmp_path / "one.mps", instance(SMALL["auction"], 0, 0))
    write_milp(tmp_path / "one.lp", instance(SMALL["auction"], 0, 0))
    for name in ("one.mps", "one.lp"):
        model = read_model(tmp_path / name)
        model.optimize()
        assert model.getStatus() == "optimal"
    assert capfd.readouterr() == ("", "")


def test_nonlinear_models_are_read_but_are_no_milp(tmp_path):
    model = pyscipopt.Model()
    x = model.addVar("x", ub=3.0, obj=-1.0)
    model.addCons(x * x <= 4.0, name="square")
    model.writeProblem(str(tmp_path / "square.cip"), verbose=False)
    assert read_model(tmp_path / "square.cip").getNVars() == 1
    with pytest.raises(DataError, match=r"constraint square of .* is nonlinear, not linear"):
        read_milp(tmp_path / "square.cip")


def test_a_constant_in_the_objective_is_refused():
    model = pyscipopt.Model()
    model.hideOutput()
    model.addVar("x", ub=1.0, obj=1.0)
    model.addObjoffset(3.0)
    with pytest.raises(DataError, match="constant 3"):
        milp_of(model)


DAMAGED = {
    "empty.mps": b"",
    "empty.lp": b"",
    "empty.cip": b"",
    "words.mps": b"hello world\n" * 5,
    "words.lp": b"hello world\n" * 5,
    "words.cip": b"hello world\n" * 5,
    "bytes.mps": bytes(range(256)) * 10,
    "cut.mps": mps_text(odd()).encode()[:300],
    "cut.mps.gz": gzip.compress(mps_text(odd()).encode())[:-20],
    "not.mps.gz": mps_text(odd()).encode(),
    "nan.mps": mps_text(odd()).replace("r0 2.0", "r0 nan").encode(),
    "cost.mps": mps_text(odd()).replace("obj 7.0", "obj nan").encode(),
    "side.mps": mps_text(odd()).replace("rhs r0 4.0", "rhs r0 nan").encode(),
}


@pytest.mark.parametrize("name", sorted(DAMAGED))
def test_damage_is_named(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(DAMAGED[name])
    with pytest.raises(DataError, match=name):
        read_model(path)


def test_the_damaged_ones_above_would_be_read_if_whole(tmp_path):
    """Otherwise the replacements would have missed."""
    for name in ("nan.mps", "cost.mps", "side.mps"):
        assert DAMAGED[name] != mps_text(odd()).encode()
    (tmp_path / "whole.mps").write_text(mps_text(odd()))
    assert read_model(tmp_path / "whole.mps").getNVars() == 6


def test_missing_files_folders_and_unknown_endings(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*none\.mps"):
        read_model(tmp_path / "none.mps")
    (tmp_path / "folder.mps").mkdir()
    with pytest.raises(DataError, match=r"there is no file .*folder\.mps"):
        read_model(tmp_path / "folder.mps")
    with pytest.raises(DataError, match=r"one\.txt must end in one of \.mps, \.lp"):
        read_model(tmp_path / "one.txt")
    with pytest.raises(DataError, match=r"as \.mps or \.lp, not as one\.xyz"):
        write_milp(tmp_path / "one.xyz", odd())


@pytest.mark.parametrize("ending", [".mps", ".lp"])
def test_where_nothing_can_be_written(ending, tmp_path, capfd):
    with pytest.raises(DataError, match=r"cannot write .*one"):
        write_milp(tmp_path / "none" / f"one{ending}", odd())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": np.full(6, 9.0)}, "variable 0 of odd must be at least 9 and at most 1"),
        ({"row_low": np.full(5, 9.0)}, "row 0 of odd must be at least 9 and at most 4"),
    ],
)
def test_what_mps_cannot_say(changes, message, tmp_path):
    with pytest.raises(DataError, match=message):
        write_milp(tmp_path / "one.mps", odd(**changes))
    assert not list(tmp_path.iterdir())


def test_reading_needs_a_solver(tmp_path, monkeypatch):
    write_milp(tmp_path / "one.mps", odd())
    monkeypatch.setitem(sys.modules, "pyscipopt", None)
    with pytest.raises(MissingExtra, match="pyscipopt"):
        read_model(tmp_path / "one.mps")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("row", [" L", " what"])
def test_a_row_without_a_name_is_refused_before_it_crashes_the_reader(tmp_path, row, packed):
    text = f"NAME x\nROWS\n N  obj\n{row}\nCOLUMNS\n    x  obj  1\nENDATA\n"
    path = tmp_path / ("row.mps.gz" if packed else "row.mps")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    with pytest.raises(DataError, match=f"{path.name}:4: a row is its kind and its name"):
        read_model(path)
