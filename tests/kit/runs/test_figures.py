import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from esscher.errors import ShapeError
from esscher.kit.runs.figures import (
    Series,
    bar_with_errors,
    line_figure,
    points_figure,
    scatter_path,
    thin,
    to_svg,
)

X = np.linspace(0.0, 1.0, 50)


def curves():
    return [Series("one", X, X**2, se=np.full(50, 0.1)), Series("two", X, 1 - X)]


FIGURES = {
    "line": lambda: line_figure(
        curves(), xlabel="step", ylabel="KL, nats", reference={"best": 0.1}
    ),
    "path": lambda: scatter_path(
        curves(), xlabel="KL, nats", ylabel="reward", frontier=Series("best", X, X)
    ),
    "points": lambda: points_figure(
        {"one": np.zeros((3, 2)), "two": np.ones((2, 2)), "none": np.zeros((0, 2))},
        xlabel="x",
        ylabel="y",
    ),
    "bars": lambda: bar_with_errors(
        ["a", "b"], [1.0, 2.0], [0.1, 0.2], xlabel="share", reference={"wanted": 1.5}
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_stable_scales_and_touches_nothing(name, no_global_state):
    before = dict(mpl.rcParams)
    svg = to_svg(FIGURES[name]())
    assert svg == to_svg(FIGURES[name]())
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in __import__("sys").modules
    root = ET.fromstring(svg)
    assert root.attrib["viewBox"]
    assert "width" not in root.attrib
    assert "<metadata" not in svg


def test_labels_and_legend_are_text():
    svg = to_svg(FIGURES["line"]())
    for word in ("KL, nats", "step", ">one<", ">two<", ">best<"):
        assert word in svg


def test_clouds_are_thinned_named_and_checked():
    groups = {f"g{i}": np.random.default_rng(i).normal(size=(500, 2)) for i in range(9)}
    svg = to_svg(points_figure(groups, xlabel="x", ylabel="y", limit=900))
    assert 9 * 95 < svg.count("<use") < 9 * 130
    assert all(f">g{i}<" in svg for i in range(9))
    assert ">none<" not in to_svg(FIGURES["points"]())
    with pytest.raises(ShapeError, match=r"points of 'a' must be \[N, 2\], got \(3,\)"):
        points_figure({"a": [1, 2, 3]}, xlabel="x", ylabel="y")


def test_a_single_curve_needs_no_legend():
    assert ">only<" not in to_svg(line_figure([Series("only", X, X)], xlabel="x", ylabel="y"))


def test_logarithmic_axes_are_drawn():
    plain = line_figure([Series("a", X, X + 1)], xlabel="x", ylabel="y")
    logarithmic = line_figure([Series("a", X, X + 1)], xlabel="x", ylabel="y", log_y=True)
    assert to_svg(plain) != to_svg(logarithmic)


def test_long_series_stay_small():
    x = np.arange(200_000.0)
    y = np.random.default_rng(0).standard_normal(200_000)
    svg = to_svg(line_figure([Series("a", x, y)], xlabel="step", ylabel="loss"))
    assert len(svg) < 100_000


@settings(max_examples=50)
@given(
    arrays.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6) | st.just(np.nan))
)
def test_thinning_keeps_ends_and_extremes(y):
    x = np.arange(len(y), dtype=np.float64)
    index = thin(x, y, 20)
    assert len(index) <= 20
    assert (np.diff(index) > 0).all()
    assert index[0] == 0
    assert index[-1] == len(y) - 1
    if not np.isnan(y).all():
        assert np.nanmax(y[index]) == np.nanmax(y)
        assert np.nanmin(y[index]) == np.nanmin(y)


def test_unequal_lengths_are_named():
    with pytest.raises(ShapeError, match=r"series 'a' .*\(50,\), \(3,\)"):
        line_figure([Series("a", X, [1, 2, 3])], xlabel="x", ylabel="y")
    with pytest.raises(ShapeError, match="1 labels, 2 values"):
        bar_with_errors(["a"], [1.0, 2.0], xlabel="x")
