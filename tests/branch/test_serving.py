"""Scores of one observation: equal to the plain forward, by either implementation."""

import numpy as np
import pytest

from esscher.branch import compiling, kernels, serving
from esscher.branch.graphs import collate
from esscher.branch.serving import Scorer
from esscher.errors import ConfigError, MissingExtra, NumericsError, ShapeError
from tests.branch.graphs import observation, plain_scores
from tests.branch.test_network import ENDS, lively, needs_numba, network

IMPLEMENTATIONS = [pytest.param("fast", marks=needs_numba), "torch"]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("features", ["gasse19", "retro43"])
@pytest.mark.parametrize("edges", ["affine", "legacy"])
@pytest.mark.parametrize("end", ENDS)
def test_scores_equal_the_plain_forward(implementation, features, edges, end):
    net = lively(features=features, edges=edges, **end)
    scorer = Scorer(net, implementation)
    assert scorer.implementation == implementation
    rng = np.random.default_rng(0)
    for shape in [(165, 230, 1897, 25), (1, 3, 2, 1), (10, 6, 50, 6)]:
        seen = observation(rng, **dict(zip(("rows", "columns", "edges", "candidates"), shape)))  # noqa: B905
        wanted = plain_scores(net, seen).detach().numpy()
        got = scorer.scores(seen)
        assert got.dtype == np.float32
        assert np.abs(wanted).max() > 0.005
        assert np.abs(got - wanted).max() < 1e-5


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_features_as_large_as_observers_give(implementation):
    rng = np.random.default_rng(1)
    seen = observation(rng)
    seen = seen._replace(
        rows=np.clip(1e3 * seen.rows, -10, 10),
        columns=np.clip(1e3 * seen.columns, -10, 10),
        tree=np.full(24, 10, np.float32),
    )
    net = lively(features="retro43")
    wanted = plain_scores(net, seen).detach().numpy()
    assert np.abs(Scorer(net, implementation).scores(seen) - wanted).max() < 1e-5
    level = seen._replace(columns=np.full_like(seen.columns, 10))
    wanted = plain_scores(net, level).detach().numpy()
    assert np.abs(Scorer(net, implementation).scores(level) - wanted).max() < 1e-5


@needs_numba
def test_read_only_and_half_precision_arrays_are_taken():
    seen = observation(np.random.default_rng(2))
    net = lively()
    for array in seen:
        array.setflags(write=False)
    wanted = plain_scores(net, seen).detach().numpy()
    assert np.abs(Scorer(net).scores(seen) - wanted).max() < 1e-5
    half = seen._replace(rows=seen.rows.astype(np.float16), columns=seen.columns.astype(np.float16))
    wanted = net(collate([half], "gasse19")).detach().numpy()
    assert np.abs(Scorer(net).scores(half) - wanted).max() < 1e-5


@needs_numba
def test_weights_change_at_a_refresh():
    seen = observation(np.random.default_rng(3))
    net = lively()
    scorer = Scorer(net)
    before = scorer.scores(seen)
    net.load_state_dict(lively(5).state_dict())
    assert np.array_equal(scorer.scores(seen), before)
    scorer.refresh()
    wanted = plain_scores(net, seen).detach().numpy()
    assert np.abs(scorer.scores(seen) - wanted).max() < 1e-5 < np.abs(before - wanted).max()


def test_without_numba_it_is_torch(monkeypatch):
    monkeypatch.setattr(serving, "available", lambda: False)
    assert Scorer(network()).implementation == "torch"

    def absent(module, extra):
        raise MissingExtra(f"{module} [{extra}]")

    monkeypatch.setattr(serving, "require", absent)
    with pytest.raises(MissingExtra, match="fast"):
        Scorer(network(), "fast")


def test_the_loops_are_looked_for_without_importing_numba(monkeypatch):
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda _: None)
    assert not compiling.available.__wrapped__()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_what_cannot_be_scored_is_an_error(implementation):
    rng = np.random.default_rng(4)
    seen = observation(rng, tree=0)
    with pytest.raises(ShapeError):
        Scorer(network(features="retro43"), implementation).scores(seen)
    with pytest.raises(ShapeError):
        Scorer(network(), implementation).scores(seen._replace(rows=seen.rows[:, :4].copy()))
    seen.rows[seen.edge_row[0], 0] = np.nan
    seen = seen._replace(candidates=seen.edge_column[:1].copy())
    with pytest.raises(NumericsError, match="1 of 1 scores"):
        Scorer(network(), implementation).scores(seen)
    with pytest.raises(ConfigError, match="implementation"):
        Scorer(network(), "quick")


@needs_numba
def test_where_nothing_can_be_cached_the_loops_still_compile(monkeypatch):
    import numba

    njit, asked = numba.njit, []

    def refusing(cache=False, **options):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(numba, "njit", refusing)
    found = kernels.compiled.__wrapped__()
    ends = np.ones((1, 2), np.float32), np.zeros((1, 2), np.float32)
    norm = tuple(np.array(x, np.float32) for x in ([0, -2], [1, 1], [0, 0]))
    edges = np.zeros(3, np.int32), np.array([0, -1, 0], np.int32), np.ones(3, np.float32)
    total = np.zeros((1, 2), np.float32)
    found.forward(ends, norm, edges, (0, 0), total)
    assert total[0] == pytest.approx([2, -0.02], rel=1e-4)
    assert asked == [True, False] * len(found)
