import dataclasses
import gc

import numpy as np
import pytest

from esscher.branch.observation import fast, getters, library, loops, observer
from esscher.branch.observation.base import Observer
from esscher.branch.observation.observer import make_observer
from esscher.branch.observation.reference import ReferenceReader
from esscher.errors import ConfigError, DataError, MissingExtra
from tests.branch.observation.models import auction, covering, facility, model_of, walk


@pytest.fixture(autouse=True)
def nothing_known_of_the_fast_one():
    observer._check_of_process.cache_clear()
    yield
    observer._check_of_process.cache_clear()


def observations(model, watcher, **settings):
    seen = []

    def look(focus):
        if focus.step == 0:
            watcher.begin(focus.model)
        seen.append((watcher.observe(focus), [v.name for v in focus.variables], focus.values))

    walk(model, look, **settings)
    return seen


@pytest.mark.parametrize("implementation", ["auto", "fast", "reference"])
@pytest.mark.parametrize(("features", "width"), [("gasse19", 0), ("retro43", 24)])
def test_shapes_and_types(implementation, features, width):
    watcher: Observer = make_observer(features, implementation)
    seen = observations(model_of(auction(20, 40, 0)), watcher, limit=3)
    assert len(seen) == 3
    for graph, names, values in seen:
        rows, columns = len(graph.rows), len(graph.columns)
        assert (graph.rows.shape, graph.columns.shape) == ((rows, 5), (columns, 19))
        assert graph.tree.shape == (width,)
        floats = (graph.rows, graph.columns, graph.tree, graph.edge_value)
        assert all(part.dtype == np.float32 for part in floats)
        whole = (graph.edge_row, graph.edge_column, graph.candidates)
        assert all(part.dtype == np.int32 for part in whole)
        key = graph.edge_row.astype(int) * columns + graph.edge_column
        assert (np.diff(key) > 0).all()
        assert graph.candidates.shape == (len(names),)
        np.testing.assert_allclose(graph.columns[graph.candidates, 8], values, rtol=1e-6)


def test_auto_is_fast_here():
    watcher = make_observer("retro43")
    seen = observations(model_of(covering(150, 200, 0.06, 1)), watcher, limit=5)
    assert (watcher.implementation, watcher.reason) == ("fast", "")
    plain = observations(
        model_of(covering(150, 200, 0.06, 1)), make_observer("retro43", "reference"), limit=5
    )
    for (one, names, _), (other, wanted, _) in zip(seen, plain, strict=True):
        assert names == wanted
        for part, same in zip(one, other, strict=True):
            np.testing.assert_allclose(part, same, rtol=1e-6, atol=1e-6)


def without_llvmlite(monkeypatch):
    def require(module, extra):
        raise MissingExtra(f"{module} is not installed", name=module)

    loops.compiled_loops.cache_clear()
    monkeypatch.setattr(loops, "require", require)


def with_an_unknown_scip(monkeypatch):
    library.scip_library.cache_clear()
    monkeypatch.setattr(library, "KNOWN_MAJORS", (99,))


def without_a_symbol(monkeypatch):
    monkeypatch.setattr(getters, "_LISTED", (*getters._LISTED, ("SCIPcolGetColour",)))


def with_a_compiler_that_fails(monkeypatch):
    def fail(binding, text):
        raise RuntimeError("no target for this machine")

    loops.compiled_loops.cache_clear()
    monkeypatch.setattr(loops, "_machine_code", fail)


@pytest.fixture
def clear():
    yield
    loops.compiled_loops.cache_clear()
    library.scip_library.cache_clear()


@pytest.mark.parametrize(
    ("breakage", "reason", "error"),
    [
        (without_llvmlite, "llvmlite.ir is not installed", MissingExtra),
        (with_an_unknown_scip, "SCIP 99 is known here", ConfigError),
        (without_a_symbol, "does not export SCIPcolGetColour", ConfigError),
        (with_a_compiler_that_fails, "no target", ConfigError),
    ],
)
def test_where_it_cannot_be_fast_auto_says_why(monkeypatch, clear, breakage, reason, error):
    breakage(monkeypatch)
    watcher = make_observer()
    assert watcher.implementation == "reference"
    assert reason in watcher.reason
    assert len(observations(model_of(facility(10, 6, 0)), watcher, limit=3)) == 3
    with pytest.raises(error, match=reason):
        make_observer(implementation="fast")


@pytest.mark.parametrize(
    ("field", "change"),
    [("rows", lambda x: x + 1e-3), ("columns", lambda x: x[1:]), ("edge_value", np.negative)],
)
def test_auto_gives_up_what_differs_from_the_reference(monkeypatch, field, change):
    right = fast.FastReader.read

    def wrong(self, model):
        graph = right(self, model)
        return graph._replace(**{field: change(getattr(graph, field))})

    monkeypatch.setattr(fast.FastReader, "read", wrong)
    watcher = make_observer()
    assert watcher.implementation == "fast"
    seen = observations(model_of(facility(10, 6, 0)), watcher, limit=2)
    assert watcher.implementation == "reference"
    assert field in watcher.reason
    plain = observations(
        model_of(facility(10, 6, 0)), make_observer("gasse19", "reference"), limit=2
    )
    for (one, *_), (other, *_) in zip(seen, plain, strict=True):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_auto_gives_up_a_reader_that_places_candidates_elsewhere(monkeypatch):
    right = fast.FastReader.positions
    monkeypatch.setattr(fast.FastReader, "positions", lambda *args: right(*args)[::-1].copy())
    watcher = make_observer()
    seen = observations(model_of(facility(10, 6, 0)), watcher, limit=2)
    assert len(seen[0][1]) > 1
    assert watcher.implementation == "reference"
    assert "candidates differ" in watcher.reason
    for graph, _, values in seen:
        np.testing.assert_allclose(graph.columns[graph.candidates, 8], values, rtol=1e-6)


def test_auto_gives_up_what_fails_at_the_first_node(monkeypatch):
    def fail(self, model):
        raise ValueError("operands could not be broadcast")

    monkeypatch.setattr(fast.FastReader, "read", fail)
    watcher, earlier = make_observer(), make_observer()
    assert len(observations(model_of(facility(10, 6, 0)), watcher, limit=2)) == 2
    assert len(observations(model_of(facility(10, 6, 0)), earlier, limit=2)) == 2
    assert watcher.implementation == earlier.implementation == "reference"
    assert "operands" in watcher.reason
    later = make_observer()
    assert later.implementation == "reference"
    assert "operands" in later.reason


def test_the_reference_is_asked_once_in_a_process(monkeypatch):
    asked = []
    right = ReferenceReader.read
    monkeypatch.setattr(
        ReferenceReader, "read", lambda self, model: asked.append(1) or right(self, model)
    )
    observations(model_of(facility(10, 6, 0)), make_observer(), limit=4)
    observations(model_of(facility(10, 6, 1)), make_observer(), limit=4)
    assert len(asked) == 1


@pytest.mark.parametrize("implementation", ["fast", "reference"])
def test_begin_has_to_come_first(implementation):
    watcher = make_observer("retro43", implementation)
    model = model_of(facility(10, 6, 0))

    def look(focus):
        with pytest.raises(DataError, match=r"begin\(model\) first"):
            watcher.observe(focus)

    assert walk(model, look, limit=1) == 1
    watcher.begin(model)
    assert walk(model_of(facility(10, 6, 0)), look, limit=1) == 1, "another model"


@pytest.mark.parametrize("implementation", ["fast", "reference"])
def test_one_observer_for_many_solves_of_models_that_are_freed(implementation):
    watcher = make_observer("retro43", implementation)
    for seed in range(5):
        program = facility(8, 5, seed)
        fresh = make_observer("retro43", "reference")
        wanted = observations(model_of(program), fresh, limit=3)
        gc.collect()
        seen = observations(model_of(program), watcher, limit=3)
        gc.collect()
        assert len(seen) == len(wanted)
        for (one, *_), (other, *_) in zip(seen, wanted, strict=True):
            for part, same in zip(one, other, strict=True):
                np.testing.assert_allclose(part, same, rtol=1e-6, atol=1e-6)


def test_observations_keep_what_they_were():
    watcher = make_observer("retro43", "fast")
    kept = []

    def look(focus):
        if focus.step == 0:
            watcher.begin(focus.model)
        graph = watcher.observe(focus)
        kept.append((graph, [part.copy() for part in graph]))

    walk(model_of(facility(10, 6, 0)), look, limit=6)
    for graph, copies in kept:
        for part, copy in zip(graph, copies, strict=True):
            np.testing.assert_array_equal(part, copy)


@pytest.mark.parametrize("implementation", ["fast", "reference"])
def test_a_candidate_that_is_no_column_is_refused(implementation):
    watcher = make_observer("gasse19", implementation)

    def look(focus):
        loose = focus.model.getVars(transformed=False)[0]
        watcher.begin(focus.model)
        wrong = dataclasses.replace(focus, variables=[*focus.variables, loose])
        with pytest.raises(DataError, match=f"candidate {loose.name} is not a column"):
            watcher.observe(wrong)

    assert walk(model_of(facility(10, 6, 0)), look, limit=1) == 1


def test_an_lp_that_is_not_solved_shows_nothing():
    watcher = make_observer()

    def look(focus):
        class Unsolved:
            def to_ptr(self, give_ownership):
                return focus.model.to_ptr(give_ownership)

            def getLPSolstat(self):  # noqa: N802
                return 0

        watcher.begin(focus.model)
        with pytest.raises(DataError, match="not solved to optimality"):
            watcher.observe(dataclasses.replace(focus, model=Unsolved()))

    assert walk(model_of(facility(10, 6, 0)), look, limit=1) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("gasse",), 'features must be "gasse19" or "retro43"'), (("gasse19", "c"), "implementation")],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_observer(*arguments)


def test_names_of_the_module_are_those_it_says():
    assert set(observer.__all__) == {"Features", "Implementation", "NodeObserver", "make_observer"}
