"""Programs as arrays, in SCIP and in HiGHS."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from esscher.branch.milp import Milp
from esscher.errors import DataError, MissingExtra, ShapeError
from tests.branch.brute import enumerate_optimum, random_milp

ROOT = Path(__file__).parents[2]


def program(**changes):
    """min x0 + 2 x1, 1 <= x0 + x1 <= 2, x0 - x1 = 0, x0 binary, -3 <= x1 <= 5."""
    fields = {
        "objective": np.array([1.0, 2.0]),
        "matrix": sparse.csr_array(np.array([[1.0, 1.0], [1.0, -1.0]])),
        "row_low": np.array([1.0, 0.0]),
        "row_high": np.array([2.0, 0.0]),
        "low": np.array([0.0, -3.0]),
        "high": np.array([1.0, 5.0]),
        "integer": np.array([True, False]),
    }
    return Milp(**{**fields, **changes})


def by_scip(milp):
    """Status and optimum of the program in SCIP."""
    model = milp.to_scip()
    model.optimize()
    status = model.getStatus()
    return status, model.getObjVal() if status == "optimal" else None


def by_highs(milp):
    """Status and optimum of the program in HiGHS."""
    solver = milp.to_highs()
    solver.run()
    status = solver.modelStatusToString(solver.getModelStatus())
    return status, solver.getInfo().objective_function_value if status == "Optimal" else None


@pytest.mark.parametrize("continuous", [0, 2])
@pytest.mark.parametrize("seed", range(12))
def test_both_solvers_find_the_optimum_of_enumeration(seed, continuous):
    milp = random_milp(
        np.random.default_rng(seed), n=7 if not continuous else 4, continuous=continuous
    )
    truth = enumerate_optimum(milp)
    assert truth is not None
    for status, value in (by_scip(milp), by_highs(milp)):
        assert status.lower() == "optimal"
        assert value == pytest.approx(truth.value, abs=1e-6)


def test_variables_and_rows_keep_their_order_names_and_kinds():
    milp = program(
        integer=np.array([True, True]), high=np.array([1.0, 5.0]), low=np.array([0.0, -np.inf])
    )
    model = milp.to_scip()
    variables = sorted(model.getVars(), key=lambda variable: variable.getIndex())
    assert [variable.name for variable in variables] == ["x0", "x1"]
    assert [variable.vtype() for variable in variables] == ["BINARY", "INTEGER"]
    assert [variable.getObj() for variable in variables] == [1.0, 2.0]
    assert variables[1].getLbOriginal() == -model.infinity()
    rows = model.getConss()
    assert [row.name for row in rows] == ["r0", "r1"]
    assert model.getValsLinear(rows[1]) == {"x0": 1.0, "x1": -1.0}
    assert [(model.getLhs(row), model.getRhs(row)) for row in rows] == [(1.0, 2.0), (0.0, 0.0)]
    assert model.getProbName() == "milp"


@pytest.mark.parametrize("solve", ["to_scip().optimize()", "to_highs().run()"])
def test_nothing_is_printed(solve):
    """In a process of its own: HiGHS would print its licence once."""
    code = f"from tests.branch.test_milp import program; program().{solve}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_entries_that_come_twice_are_added():
    twice = sparse.csr_array(
        (np.array([1.0, 1.0, 3.0, -3.0, 1.0]), np.array([1, 1, 0, 0, 1]), np.array([0, 4, 5])),
        shape=(2, 2),
    )
    milp = program(matrix=twice, row_low=np.array([3.0, -np.inf]), row_high=np.full(2, np.inf))
    assert by_scip(milp) == ("optimal", pytest.approx(3.0))
    assert by_highs(milp) == ("Optimal", pytest.approx(3.0))
    assert milp.matrix.nnz == 5


def test_whole_numbers_will_do_for_the_matrix():
    milp = program(matrix=sparse.csr_array(np.array([[1, 1], [1, -1]])))
    assert by_scip(milp)[1] == by_highs(milp)[1] == pytest.approx(3.0)


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_a_row_without_entries_that_holds(low):
    milp = program(matrix=sparse.csr_array((2, 2)), row_low=np.full(2, low), row_high=np.zeros(2))
    assert by_scip(milp) == ("optimal", pytest.approx(-6.0))
    assert by_highs(milp) == ("Optimal", pytest.approx(-6.0))


INFEASIBLE = {
    "a row without entries": {"matrix": sparse.csr_array((2, 2))},
    "sides that cross": {"row_low": np.array([3.0, 0.0])},
    "bounds that cross": {"low": np.array([0.0, 6.0])},
    "no whole number between the bounds": {"low": np.array([0.2, 0]), "high": np.array([0.8, 5])},
}


@pytest.mark.parametrize("changes", INFEASIBLE.values(), ids=INFEASIBLE.keys())
def test_what_contradicts_itself_is_infeasible(changes):
    assert by_scip(program(**changes))[0] == "infeasible"
    assert by_highs(program(**changes))[0] == "Infeasible"


def test_without_bounds_there_may_be_no_optimum():
    milp = program(
        low=np.full(2, -np.inf), high=np.full(2, np.inf), row_low=np.full(2, -np.inf),
        row_high=np.full(2, np.inf), integer=np.zeros(2, dtype=bool),
    )  # fmt: skip
    assert by_scip(milp)[0] == "unbounded"
    assert by_highs(milp)[0] == "Unbounded"


def test_zero_objective_and_no_rows():
    none = program(
        objective=np.zeros(2), matrix=sparse.csr_array((0, 2)), row_low=np.zeros(0),
        row_high=np.zeros(0),
    )  # fmt: skip
    assert by_scip(none) == ("optimal", 0.0)
    assert by_highs(none) == ("Optimal", 0.0)


@pytest.mark.parametrize("field", ["objective", "row_low", "row_high", "low", "high", "integer"])
def test_wrong_sizes_are_named(field):
    with pytest.raises(ShapeError, match=rf"{field} of milp has shape \(3,\)"):
        program(**{field: np.zeros(3, dtype=bool if field == "integer" else float)})


@pytest.mark.parametrize("field", ["objective", "row_low", "row_high", "low", "high"])
def test_nan_is_named(field):
    with pytest.raises(DataError, match=f"{field} of milp holds NaN"):
        program(**{field: np.array([0.0, np.nan])})


@pytest.mark.parametrize("field", ["row_low", "row_high", "low", "high"])
def test_infinities_on_the_wrong_side_are_named(field):
    beyond = -np.inf if field.endswith("high") else np.inf
    with pytest.raises(DataError, match=f"{field} of milp holds {beyond}, which nothing satisfies"):
        program(**{field: np.array([0.0, beyond])})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_coefficients_are_finite(bad):
    with pytest.raises(DataError, match="matrix of milp"):
        program(matrix=sparse.csr_array(np.array([[1.0, bad], [1.0, 1.0]])))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": np.array([1.0, 1e20])}, "objective of milp holds 1e[+]20"),
        ({"matrix": sparse.csr_array(np.array([[1.0, -1e21], [1.0, 1.0]]))}, "holds 1e[+]21"),
        ({"low": np.array([0.0, 1e20]), "high": np.full(2, np.inf)}, "low .* variable 1 no"),
        ({"high": np.array([-1e20, 1.0]), "low": np.full(2, -np.inf)}, "high .* variable 0 no"),
    ],
)
def test_what_scip_takes_for_infinite_is_refused(changes, message, capfd):
    with pytest.raises(DataError, match=message):
        program(**changes).to_scip()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("module", "method"), [("pyscipopt", "to_scip"), ("highspy", "to_highs")])
def test_a_missing_solver_is_named(module, method, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"{module} is not installed.*esscher\[milp\]"):
        getattr(program(), method)()
