"""Trees as pictures and as text."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from esscher.branch.drawing import tree_figure, tree_text
from esscher.branch.trajectories import trajectories
from esscher.errors import ConfigError, DataError
from esscher.kit.runs.figures import to_svg
from tests.branch.trees import by_hand, chain, grow, random_tree


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def places(axes):
    """(x, y) of every node that is drawn."""
    found = {}
    for drawn in axes.collections:
        found.setdefault(drawn.get_label(), []).extend(map(tuple, drawn.get_offsets().tolist()))
    return found


def test_every_node_is_drawn_by_its_fate_and_depth():
    figure = tree_figure(by_hand(stopped=True))
    (axes,) = figure.axes
    assert legend_of(figure) == ["branched", "infeasible", "integral", "cut off", "open"]
    found = places(axes)
    assert {name: len(points) for name, points in found.items()} == {
        "branched": 11, "infeasible": 4, "integral": 2, "cut off": 5, "open": 1,
    }  # fmt: skip
    points = [point for group in found.values() for point in group]
    assert len(set(points)) == 23
    assert sorted(y for _, y in points) == sorted(by_hand().depth.tolist())
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert axes.get_xlabel() == "23 nodes"


def test_leaves_are_side_by_side_and_parents_between_their_children():
    (axes,) = tree_figure(by_hand()).axes
    found = places(axes)
    leaves = [x for name in ("infeasible", "integral", "cut off") for x, _ in found[name]]
    assert sorted(leaves) == list(range(12))
    # Node 6 is above the two leaves on the far left.
    assert (0.5, 3.0) in found["branched"]


def test_edges_join_parents_and_children():
    (axes,) = tree_figure(by_hand()).axes
    x, y = axes.lines[0].get_data()
    assert len(x) == 3 * 22
    assert (np.diff(y.reshape(-1, 3)[:, :2]) == 1).all()
    assert np.isnan(y[2::3]).all()


def test_paths_are_lines_and_single_nodes_rings():
    tree = by_hand()
    paths = trajectories(tree)
    (axes,) = tree_figure(tree, paths).axes
    lines = [line for line in axes.lines if line.get_linewidth() == 4]
    assert [len(line.get_xdata()) for line in lines] == [5, 3]
    assert [line.get_ydata().tolist() for line in lines] == [[0, 1, 2, 3, 4], [1, 2, 3]]
    assert lines[0].get_color() != lines[1].get_color()
    assert len(axes.collections) == 3 + 4
    assert axes.get_xlabel() == "23 nodes, 5 paths"


def test_bounds_can_be_the_vertical_axis():
    (axes,) = tree_figure(by_hand(stopped=True), vertical="bound").axes
    assert axes.get_ylabel() == "lower bound"
    heights = [y for group in places(axes).values() for _, y in group]
    assert np.isfinite(heights).all()
    # Infeasible ones hang at the bound of their parent.
    assert sorted(y for _, y in places(axes)["infeasible"]) == [12, 13, 13, 13]


def test_a_bound_that_was_never_known_is_drawn_at_the_least_one():
    (axes,) = tree_figure(grow([]), vertical="bound").axes
    assert len(places(axes)["cut off"]) == 1
    alone = by_hand()
    alone = replace(alone, bound=np.full(23, np.inf), open_bound=np.full(23, -np.inf))
    (axes,) = tree_figure(alone, vertical="bound").axes
    assert {y for group in places(axes).values() for _, y in group} == {0.0}


def test_large_trees_are_thinned_and_say_so():
    tree = random_tree(np.random.default_rng(0), 2000)
    figure = tree_figure(tree, trajectories(tree), limit=100)
    (axes,) = figure.axes
    assert "4,001 nodes" in axes.get_xlabel()
    assert "shown are the 100 nearest to the root" in axes.get_xlabel()
    assert legend_of(figure)[-1] == "more below"
    found = places(axes)
    fates = {"branched", "infeasible", "integral", "cut off", "open"}
    assert sum(len(points) for name, points in found.items() if name in fates) == 100


def test_the_nodes_shown_are_the_nearest_to_the_root():
    # Ten decisions dive on one side of the root before the other side is begun.
    steps = [(0, (0, 0), (0, 0)), *[(-1, (0, 0), (4, 0))] * 9, *[(0, (0, 0), (0, 0))] * 3]
    tree = grow(steps)
    (axes,) = tree_figure(tree, limit=16).axes
    points = [
        point for name, group in places(axes).items() if name != "more below" for point in group
    ]
    assert sorted(y for _, y in points) == np.sort(tree.depth)[:16].tolist()
    assert np.sort(tree.depth)[:16].tolist() != np.sort(tree.depth[:16]).tolist()


def test_a_long_chain_is_drawn_without_recursion():
    assert len(to_svg(tree_figure(chain(3000), limit=10_000))) > 1000
    assert len(tree_text(chain(1500), limit=5000).splitlines()) == 3001


def test_equal_trees_are_equal_bytes():
    tree = by_hand()
    one, other = (to_svg(tree_figure(tree, trajectories(tree))) for _ in range(2))
    assert one == other


def test_text_says_what_every_node_is():
    assert tree_text(grow([(0, (1, 2), (2, 0)), (0, (0, 0), (3, 4))])) == "\n".join([
        "root  bound 10  branched  decision 0",
        "├─ x1 ≤ 0  infeasible",
        "└─ x1 ≥ 1  bound 12  branched  decision 1, closed",
        "   ├─ x2 ≤ 0  bound 12  integral",
        "   └─ x2 ≥ 1  cut off",
    ])  # fmt: skip


def test_text_counts_what_it_leaves_out():
    lines = tree_text(by_hand(), limit=6).splitlines()
    assert lines[0] == "root  bound 10  branched  decision 0"
    assert lines[3] == "│  │  └─ … 6 more below"
    assert lines[7:] == [
        "   ├─ … 1 more below",
        "   └─ x0 ≤ 0  bound 12  branched  decision 6",
        "      └─ … 8 more below",
        "23 nodes; shown are the 6 nearest to the root, depth ≤ 2 of 5",
    ]
    counts = [int(line.split("…")[1].split()[0]) for line in lines if "…" in line]
    assert sum(counts) + 6 == 23


def test_a_tree_of_one_node():
    assert tree_text(grow([], complete=False)) == "root  open"
    assert legend_of(tree_figure(grow([], complete=False))) == ["open"]


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="limit"):
        tree_text(by_hand(), limit=0)
    with pytest.raises(ConfigError, match="limit"):
        tree_figure(by_hand(), limit=0)
    with pytest.raises(ConfigError, match="vertical"):
        tree_figure(by_hand(), vertical="height")
    with pytest.raises(DataError, match=r"0 \.\. 22"):
        tree_figure(by_hand(), [[0, 23]])


def test_an_empty_tree_is_refused():
    empty = {
        name: np.empty(0, value.dtype)
        for name, value in vars(by_hand()).items()
        if isinstance(value, np.ndarray)
    }
    with pytest.raises(DataError, match="no node"):
        tree_text(replace(by_hand(), **empty))


def test_nothing_heavy_is_loaded_for_text():
    code = "import sys, esscher.branch.drawing; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
