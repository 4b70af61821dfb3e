import math

import numpy as np
import pytest

from esscher.branch.observation.base import COLUMN_FEATURES, ROW_FEATURES
from esscher.branch.observation.fast import FastReader
from esscher.branch.observation.library import address_of, scip_library
from esscher.branch.observation.reference import ReferenceReader
from tests.branch.observation.models import covering, milp, model_of, walk

R = {name: k for k, name in enumerate(ROW_FEATURES)}
C = {name: k for k, name in enumerate(COLUMN_FEATURES)}


@pytest.fixture(params=[ReferenceReader, FastReader])
def reader(request):
    return request.param()


def first_graph(model, reader, check=lambda focus: None):
    graphs = []

    def look(focus):
        reader.begin(focus.model)
        graphs.append(reader.read(focus.model))
        check(focus)

    walk(model, look, limit=1)
    return graphs[0]


def small(*, maximise=False):
    """min -x - 2y: 3x + 4y <= 6.5, x - y >= -1/2, -10 <= x + y <= 9; the LP has both at 9/14, 8/7.

    By complementary slackness its dual values are -3/7, 2/7 and 0.
    """
    sign = -1 if maximise else 1
    return milp(
        [-1 * sign, -2 * sign],
        [[3, 4], [1, -1], [1, 1]],
        [-np.inf, -0.5, -10],
        [6.5, np.inf, 9],
        low=[0, -np.inf],
        high=[np.inf, 7],
        maximise=maximise,
    )


@pytest.mark.parametrize("maximise", [False, True])
def test_rows_of_a_small_program(reader, maximise):
    graph = first_graph(model_of(small(maximise=maximise)), reader)
    cost, two = math.sqrt(5), math.sqrt(2)
    wanted = {
        "bias": [6.5 / 5, 0.5 / two, 10 / two, 9 / two],
        "objective_cosine": [
            -11 / (5 * cost), -1 / (two * cost), 3 / (two * cost), -3 / (two * cost)
        ],
        "is_tight": [1, 1, 0, 0],
        "dual": [-3 / 7 / (5 * cost), -2 / 7 / (two * cost), 0, 0],
    }  # fmt: skip
    for name, values in wanted.items():
        np.testing.assert_allclose(graph.rows[:, R[name]], values, atol=1e-6, err_msg=name)


def test_edges_of_a_small_program(reader):
    graph = first_graph(model_of(small()), reader)
    two = math.sqrt(0.5)
    assert graph.edge_row.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert graph.edge_column.tolist() == [0, 1] * 4
    np.testing.assert_allclose(
        graph.edge_value, [3 / 5, 4 / 5, -two, two, -two, -two, two, two], atol=1e-6
    )


@pytest.mark.parametrize("maximise", [False, True])
def test_columns_of_a_small_program(reader, maximise):
    graph = first_graph(model_of(small(maximise=maximise)), reader)
    wanted = {
        "objective": [-1 / math.sqrt(5), -2 / math.sqrt(5)],
        "is_binary": [0, 0],
        "is_integer": [1, 1],
        "is_implicit_integer": [0, 0],
        "is_continuous": [0, 0],
        "has_lower_bound": [1, 0],
        "has_upper_bound": [0, 1],
        "reduced_cost": [0, 0],
        "value": [9 / 14, 8 / 7],
        "fractionality": [9 / 14, 1 / 7],
        "at_lower_bound": [0, 0],
        "at_upper_bound": [0, 0],
        "incumbent_value": [0, 0],
        "average_incumbent_value": [0, 0],
        "basis_lower": [0, 0],
        "basis_basic": [1, 1],
        "basis_upper": [0, 0],
        "basis_zero": [0, 0],
    }
    for name, values in wanted.items():
        np.testing.assert_allclose(graph.columns[:, C[name]], values, atol=1e-6, err_msg=name)


def test_a_column_at_its_bound_is_not_basic_and_has_a_reduced_cost(reader):
    """Max x + y: 2x + y / 2 <= 3, x in {0, 1, 2, 3}, y in [0, 1]: y = 1, x = 5/4."""
    program = milp(
        [1, 1], [[2, 0.5]], -np.inf, 3.0, high=[3, 1], integer=[True, False], maximise=True
    )
    graph = first_graph(model_of(program), reader)
    x, y = graph.columns
    assert (x[C["value"]], y[C["value"]]) == (1.25, 1)
    assert (x[C["basis_basic"]], y[C["basis_upper"]], y[C["at_upper_bound"]]) == (1, 1, 1)
    assert (y[C["is_continuous"]], y[C["fractionality"]], x[C["fractionality"]]) == (1, 0, 0.25)
    assert y[C["reduced_cost"]] == pytest.approx((-1 + 0.25) / math.sqrt(2))


def test_a_solution_is_shown(reader):
    model = model_of(small())
    solution = model.createSol()
    for variable, value in zip(model.getVars(), (1, 0), strict=True):
        model.setSolVal(solution, variable, value)
    assert model.addSol(solution)
    graph = first_graph(model, reader)
    assert graph.columns[:, C["incumbent_value"]].tolist() == [1, 0]
    assert graph.columns[:, C["average_incumbent_value"]].tolist() == [1, 0]


def test_implied_integers_are_a_type_of_their_own_unless_binary(reader):
    program = milp(
        [1, 5, 1, 1, 5],
        [[2, 1, 1, 2, 1]],
        3.5,
        3.5,
        high=[3, 3, 1, 1, 3],
        integer=[True, False, True, True, False],
    )
    model = model_of(program)
    for variable in model.getVars():
        if variable.name in ("x1", "x3"):
            model.chgVarType(variable, "IMPLINT")
    names = []

    def check(focus):
        names.extend(column.getVar().name for column in focus.model.getLPColsData())

    columns = first_graph(model, reader, check).columns
    types = dict(zip(names, columns[:, 1:5].argmax(1).tolist(), strict=True))
    assert types == {"t_x0": 1, "t_x1": 2, "t_x2": 0, "t_x3": 0, "t_x4": 3}
    assert (columns[:, 1:5].sum(1) == 1).all()


def test_ages_are_over_the_solved_lps(reader):
    def check(focus):
        model = focus.model
        ages = [column.getAge() for column in model.getLPColsData()]
        assert max(ages) > 0
        graph = reader.read(model)
        np.testing.assert_allclose(
            graph.columns[:, C["age"]], np.array(ages) / (model.getNLPs() + 5), rtol=1e-6
        )
        rows = [row.getAge() for row in model.getLPRowsData()]
        np.testing.assert_allclose(
            graph.rows[:, R["age"]], np.array(rows) / (model.getNLPs() + 5), rtol=1e-6
        )

    def look(focus):
        if focus.step == 3:
            reader.begin(focus.model)
            check(focus)

    assert walk(model_of(covering(150, 200, 0.06, 1)), look, limit=4) == 4


def test_the_objective_norm_is_that_of_scip(reader):
    import ctypes

    norm = scip_library().call("SCIPgetObjNorm", ctypes.c_double, 1)

    def check(focus):
        columns = focus.model.getLPColsData()
        shown = reader.read(focus.model).columns[:, 0]
        costs = np.array([column.getObjCoeff() for column in columns])
        np.testing.assert_allclose(shown * norm(address_of(focus.model)), costs, rtol=1e-6)

    first_graph(model_of(covering(150, 200, 0.06, 1)), reader, check)


def test_no_objective_and_rows_without_entries_or_sides(reader):
    """SCIP leaves rows without entries, and those without sides, out of its LP."""
    matrix = [[1, 1, 1], [0, 0, 0], [2, 4, 6], [1, 0, 1]]
    program = milp([0, 0, 0], matrix, [1, -1, 3, -np.inf], [np.inf, 2, 3, np.inf])
    graph = first_graph(model_of(program), reader)
    assert graph.edge_row.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    long = math.sqrt(56)
    assert graph.rows[:, R["bias"]] == pytest.approx([-1 / math.sqrt(3), -3 / long, 3 / long])
    assert not graph.columns[:, C["objective"]].any()
    assert not graph.rows[:, R["objective_cosine"]].any()
