"""Search trees as pictures and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esscher.branch.tree import Fate, SearchTree
from esscher.errors import ConfigError, DataError
from esscher.kit.runs.figures import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["tree_figure", "tree_text"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LOOKS = {
    Fate.BRANCHED: ("branched", "#59636e", "o"),
    Fate.INFEASIBLE: ("infeasible", COLOURS[1], "X"),
    Fate.INTEGRAL: ("integral", COLOURS[2], "D"),
    Fate.CUTOFF: ("cut off", COLOURS[4], "s"),
    Fate.OPEN: ("open", "#ffffff", "o"),
}
"""Of every fate: its name, its colour and its marker."""
_INK, _SOFT, _LINE, _GRID = "#2b3138", "#59636e", "#9aa3ad", "#d9dde3"


class _Layout(NamedTuple):
    """What is drawn, and where: [N] places, defined of the shown nodes."""

    tree: SearchTree
    shown: Ints
    seen: NDArray[np.bool_]
    across: Floats
    down: Floats


def tree_figure(
    tree: SearchTree,
    paths: Sequence[ArrayLike] = (),
    *,
    vertical: Literal["depth", "bound"] = "depth",
    limit: int = 300,
) -> Figure:
    """The tree from its root downwards, nodes coloured by fate, trajectories as coloured lines.

    Of a large tree the nodes nearest to the root are drawn; those whose children are not get a
    small mark, and a line below says how many are missing. Colours of paths repeat after seven;
    a path of one node is a ring around it.

    Args:
        tree: the search tree.
        paths: positions of nodes from top to bottom, as from `trajectories`.
        vertical: what the vertical axis is: the depth, or the lower bound, rising downwards. Nodes
            whose bound is infinite are drawn at the bound they were created with.
        limit: most nodes drawn, at least 1.

    Raises:
        ConfigError: if a setting is unknown or out of range.
        DataError: if the tree has no node, or a path one that the tree has not.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - its import is slow

    if vertical not in ("depth", "bound"):
        raise ConfigError(f"vertical is 'depth' or 'bound', got {vertical!r}")
    shown = _shown(tree, limit)
    down = tree.depth.astype(np.float64) if vertical == "depth" else _heights(tree)
    layout = _Layout(tree, shown, _mask(tree, shown), _spread(tree, shown), down)
    high = float(np.clip(2.2 + 0.25 * np.ptp(tree.depth[shown]), 2.9, 6.5))
    figure = Figure(figsize=(5.4, high), layout="constrained")
    axes = figure.add_subplot()
    _edges(axes, layout)
    for number, path in enumerate(paths):
        _path(axes, layout, path, COLOURS[number % len(COLOURS)])
    _nodes(axes, layout)
    _style(axes, "depth" if vertical == "depth" else "lower bound", _note(tree, shown, len(paths)))
    figure.legend(loc="outside upper left", ncols=6, frameon=False, fontsize=8, handletextpad=0.1,
                  columnspacing=1.0)  # fmt: skip
    return figure


def tree_text(tree: SearchTree, *, limit: int = 60) -> str:
    """The tree as lines, a node each, children below their parent.

    A line says what created the node, the lower bound, what became of it, and the number of its
    decision. Of a large tree the nodes nearest to the root are shown, with counts of the rest.

    Raises:
        ConfigError: if `limit` is below 1.
        DataError: if the tree has no node.
    """
    shown = _shown(tree, limit)
    below = _below(tree, shown)
    children = _children(tree, shown)
    lines, waiting = [], [(0, "", "")]
    while waiting:
        node, prefix, branch = waiting.pop()
        lines.append(prefix + branch + _words(tree, node))
        inner = prefix + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
        last = len(children[node]) - 1
        if below[node]:
            lines.append(f"{inner}{'├' if last >= 0 else '└'}─ … {below[node]:,} more below")
        waiting.extend(
            (children[node][i], inner, "└─ " if i == last else "├─ ") for i in range(last, -1, -1)
        )
    if len(shown) < len(tree):
        lines.append(_note(tree, shown, 0))
    return "\n".join(lines)


def _shown(tree: SearchTree, limit: int) -> Ints:
    """The positions to show, ascending: nearest to the root, then the first created."""
    if limit < 1:
        raise ConfigError(f"limit is at least 1, got {limit}")
    if not len(tree):
        raise DataError("the tree has no node to draw")
    order = np.lexsort((np.arange(len(tree)), tree.depth))
    return np.sort(order[:limit])


def _mask(tree: SearchTree, shown: Ints) -> NDArray[np.bool_]:
    """[N] whether a node is shown."""
    seen = np.zeros(len(tree), np.bool_)
    seen[shown] = True
    return seen


def _children(tree: SearchTree, shown: Ints) -> dict[int, list[int]]:
    """The shown children of every shown node."""
    found: dict[int, list[int]] = {node: [] for node in shown.tolist()}
    for node in shown[1:].tolist():
        found[int(tree.parent[node])].append(node)
    return found


def _below(tree: SearchTree, shown: Ints) -> Ints:
    """[N] nodes below each shown one that hang off it and are not shown."""
    seen = _mask(tree, shown)
    hidden = (~seen).astype(np.int64).tolist()
    parent, visible = tree.parent.tolist(), seen.tolist()
    for node in range(len(tree) - 1, 0, -1):
        if not visible[node]:
            hidden[parent[node]] += hidden[node]
    return np.asarray(hidden, np.int64)


def _spread(tree: SearchTree, shown: Ints) -> Floats:
    """[N] horizontal places: leaves side by side, every other node in the middle of its children.

    Leaves are taken from left to right in the order of a walk through the tree.
    """
    across = np.full(len(tree), np.nan)
    children = _children(tree, shown)
    waiting, place, walked = [0], 0, []
    while waiting:
        node = waiting.pop()
        walked.append(node)
        waiting.extend(reversed(children[node]))
        if not children[node]:
            across[node], place = place, place + 1
    for node in reversed(walked):
        if children[node]:
            across[node] = sum(across[child] for child in children[node]) / len(children[node])
    return across


def _heights(tree: SearchTree) -> Floats:
    """[N] finite bounds: the own one, else that of creation, else the least there is."""
    own = np.where(np.isfinite(tree.bound), tree.bound, tree.open_bound)
    finite = own[np.isfinite(own)]
    found: Floats = np.where(np.isfinite(own), own, finite.min() if len(finite) else 0.0)
    return found


def _edges(axes: Axes, layout: _Layout) -> None:
    ends = layout.shown[1:]
    starts = layout.tree.parent[ends]
    gap = np.full(len(ends), np.nan)
    x = np.stack([layout.across[starts], layout.across[ends], gap], 1).ravel()
    y = np.stack([layout.down[starts], layout.down[ends], gap], 1).ravel()
    axes.plot(x, y, color=_LINE, linewidth=0.7, zorder=1)


def _path(axes: Axes, layout: _Layout, path: ArrayLike, colour: str) -> None:
    nodes, total = np.asarray(path, np.int64), len(layout.tree)
    if bool(((nodes < 0) | (nodes >= total)).any()):
        raise DataError(f"the tree has nodes 0 .. {total - 1}; a path has others")
    alone = len(nodes) == 1
    nodes = nodes[layout.seen[nodes]]
    x, y = layout.across[nodes], layout.down[nodes]
    if alone and len(nodes):
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": colour, "linewidths": 1.4}
        axes.scatter(x, y, s=70, zorder=2, **ring)
    elif len(nodes):
        axes.plot(x, y, color=colour, linewidth=4, alpha=0.55, solid_capstyle="round", zorder=2)


def _nodes(axes: Axes, layout: _Layout) -> None:
    tree, shown = layout.tree, layout.shown
    size = float(np.clip(2400 / len(shown), 5, 30))
    for fate, (name, colour, marker) in LOOKS.items():
        nodes = shown[tree.fate[shown] == fate]
        if len(nodes):
            look: dict[str, Any] = {
                "marker": marker,
                "edgecolors": _INK,
                "linewidths": 0.5,
                "label": name,
            }
            axes.scatter(
                layout.across[nodes], layout.down[nodes], s=size, color=colour, zorder=3, **look
            )
    cut = shown[_below(tree, shown)[shown] > 0]
    if len(cut):
        hanging: dict[str, Any] = {"marker": 7, "linewidths": 0, "label": "more below"}
        axes.scatter(layout.across[cut], layout.down[cut], s=size, color=_SOFT, zorder=4, **hanging)


def _style(axes: Axes, vertical: str, note: str) -> None:
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.set_ylabel(vertical, color=_INK, fontsize=9)
    axes.set_xlabel(note, color=_SOFT, fontsize=8)
    axes.grid(visible=True, axis="y", color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=3, labelsize=8)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(_LINE)


def _note(tree: SearchTree, shown: Ints, paths: int) -> str:
    text = f"{len(tree):,} nodes" + (f", {paths:,} paths" if paths else "")
    if len(shown) == len(tree):
        return text
    depths = f"depth ≤ {tree.depth[shown].max():,} of {tree.depth.max():,}"
    return f"{text}; shown are the {len(shown):,} nearest to the root, {depths}"


def _words(tree: SearchTree, node: int) -> str:
    parts = []
    if tree.parent[node] >= 0:
        number = int(tree.variable[node])
        name = tree.names[number] if number >= 0 else "?"
        sign = "≤" if tree.direction[node] < 0 else "≥"
        parts.append(f"{name} {sign} {tree.branch_value[node]:g}")
    else:
        parts.append("root")
    bound = float(tree.bound[node])
    if np.isfinite(bound):
        parts.append(f"bound {bound:g}")
    parts.append(LOOKS[Fate(int(tree.fate[node]))][0])
    if tree.decision[node] >= 0:
        parts.append(f"decision {tree.decision[node]}" + (", closed" * bool(tree.closed[node])))
    return "  ".join(parts)
