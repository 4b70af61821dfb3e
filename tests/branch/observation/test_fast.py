import itertools

import numpy as np
import pytest

from esscher.branch.observation.fast import FastReader
from esscher.branch.observation.reference import ReferenceReader
from tests.branch.observation.models import (
    auction,
    covering,
    facility,
    independent_set,
    mixed,
    model_of,
    walk,
)

CUTS = {"cuts": True, "heuristics": True}
CASES = {
    "covering": (lambda: covering(150, 200, 0.06, 1), {}, 40),
    "covering, cuts": (lambda: covering(150, 200, 0.06, 1), CUTS, 12),
    "covering, presolved": (
        lambda: covering(150, 200, 0.06, 1),
        {"cuts": True, "presolve": True},
        12,
    ),
    "covering, no costs": (lambda: covering(60, 90, 0.08, 0, zero=True), {}, 15),
    "auction": (lambda: auction(20, 40, 0), {}, 40),
    "auction, sides": (lambda: auction(10, 60, 0), {}, 40),
    "auction, presolved": (lambda: auction(20, 40, 0), {"cuts": True, "presolve": True}, 5),
    "facility": (lambda: facility(12, 8, 0), {}, 40),
    "facility, cuts": (lambda: facility(12, 8, 0), CUTS, 40),
    "facility, presolved": (lambda: facility(12, 8, 0), {**CUTS, "presolve": True}, 5),
    "independent set": (lambda: independent_set(60, 0), {}, 40),
    "independent set, cuts": (lambda: independent_set(80, 0), CUTS, 40),
    "mixed": (lambda: mixed(0), {}, 40),
    "mixed, presolved": (lambda: mixed(1), {"cuts": True, "presolve": True}, 40),
}


def equal(found, wanted):
    for name, one, other in zip(found._fields, found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert one.flags.c_contiguous
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_it_reads_what_the_reference_reads(case):
    program, settings, nodes = CASES[case]
    fast, reference = FastReader(), ReferenceReader()

    def look(focus):
        if focus.step == 0:
            fast.begin(focus.model)
        equal(fast.read(focus.model), reference.read(focus.model))

    assert walk(model_of(program(), **settings), look, limit=nodes) == nodes


def graphs_of(model, fast, **settings):
    graphs = []

    def look(focus):
        if focus.step == 0:
            fast.begin(focus.model)
        graphs.append(fast.read(focus.model))

    walk(model, look, **settings)
    return graphs


def test_the_cases_show_every_feature():
    """Else their agreement says nothing: every column but two of types and one of bases varies."""
    seen = {k: set() for k in range(19)}
    incumbents = set()
    for case in ("facility, cuts", "mixed", "covering"):
        program, settings, _ = CASES[case]
        for graph in graphs_of(model_of(program(), **settings), FastReader()):
            for k, values in enumerate(graph.columns.T):
                seen[k] |= set(values[:100].tolist())
            incumbents.add(graph.columns[:, 13].any())
    assert incumbents == {False, True}
    assert {k for k, values in seen.items() if len(values) < 2} <= {3, 18}


def test_edges_are_the_same_objects_while_rows_stay():
    graphs = graphs_of(model_of(covering(150, 200, 0.06, 1)), FastReader())
    first = graphs[0]
    for graph in graphs:
        assert graph.edge_row is first.edge_row
        assert graph.edge_column is first.edge_column
        assert graph.edge_value is first.edge_value
        assert graph is first or not np.shares_memory(graph.columns, first.columns)
        assert graph is first or not np.shares_memory(graph.rows, first.rows)
    assert not np.array_equal(graphs[0].columns, graphs[1].columns)


def test_edges_are_read_again_where_rows_come_and_go():
    graphs = graphs_of(model_of(independent_set(80, 0), **CUTS), FastReader())
    sizes = [len(graph.rows) for graph in graphs]
    assert len(set(sizes)) > 2
    assert min(np.diff(sizes)) < 0 < max(np.diff(sizes)), "rows are lost and gained"
    for one, next_one in itertools.pairwise(graphs):
        if one.rows.shape != next_one.rows.shape:
            assert one.edge_row is not next_one.edge_row


def test_other_rows_of_the_same_number_are_noticed():
    """Sides changed in the middle of a solve, and a coefficient: SCIP has the same row object."""
    fast, reference = FastReader(), ReferenceReader()
    known = []

    def look(focus):
        model = focus.model
        if focus.step == 0:
            fast.begin(model)
        graph = fast.read(model)
        equal(graph, reference.read(model))
        known.append(graph)
        if focus.step == 3:
            constraint = model.getConss()[2]
            model.chgRhs(constraint, 40.0)

    walk(model_of(covering(150, 200, 0.06, 1)), look, limit=8)
    assert len(known) == 8
    assert len(known[-1].rows) == len(known[0].rows) + 1


def test_nothing_of_one_solve_is_used_in_the_next():
    fast, reference = FastReader(), ReferenceReader()
    for seed in range(6):

        def look(focus):
            if focus.step == 0:
                fast.begin(focus.model)
            equal(fast.read(focus.model), reference.read(focus.model))

        model = model_of(facility(10, 6, seed))
        walk(model, look, limit=3)
        del model


def test_the_same_model_solved_twice():
    model = model_of(facility(12, 8, 0))
    fast, reference = FastReader(), ReferenceReader()
    first = graphs_of(model, fast, limit=5)
    assert len(first) == 5
    model.freeTransform()

    def look(focus):
        if focus.step == 0:
            fast.begin(focus.model)
        graph = fast.read(focus.model)
        equal(graph, reference.read(focus.model))
        assert graph.edge_value is not first[0].edge_value, "nothing is kept, though all is equal"

    assert walk(model, look, limit=4, again=1) == 4
