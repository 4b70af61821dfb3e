"""Figures as self-contained, byte-stable SVG; matplotlib's global state stays as it is."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from esscher.errors import ShapeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "COLOURS",
    "Series",
    "bar_with_errors",
    "line_figure",
    "points_figure",
    "scatter_path",
    "thin",
    "to_svg",
]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#333333")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
_MARKERS = "osD^vPX"
_GRID, _INK = "#d9dde3", "#2b3138"


@dataclass(frozen=True)
class Series:
    """One named curve.

    Attributes:
        label: its name in the legend.
        x: [N] positions.
        y: [N] values; NaN leaves a gap.
        se: [N] standard errors, drawn as a band (line) or bars (path) of ±1.96 se.
        style: number of its colour, dash and marker; by default its place among the series.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    se: ArrayLike | None = None
    style: int | None = None


def thin(x: NDArray[np.float64], y: NDArray[np.float64], limit: int = 1000) -> NDArray[np.int64]:
    """Indices of at most `limit` points that keep the first, the last and every extreme.

    Args:
        x: [N] ascending positions.
        y: [N] values; NaN is ignored where a bin has other values.
        limit: >= 4.

    Returns:
        Ascending indices: the lowest and the highest point of each of about limit/2 bins.
    """
    if len(x) <= limit:
        return np.arange(len(x))
    picked = {0, len(x) - 1}
    for part in np.array_split(np.arange(len(x)), (limit - 2) // 2):
        values = np.where(np.isnan(y[part]), np.inf, y[part])
        picked.add(int(part[np.argmin(values)]))
        values = np.where(np.isnan(y[part]), -np.inf, y[part])
        picked.add(int(part[np.argmax(values)]))
    return np.array(sorted(picked))


def line_figure(
    series: Sequence[Series],
    *,
    xlabel: str,
    ylabel: str,
    reference: Mapping[str, float] | None = None,
    log_y: bool = False,
) -> Figure:
    """Curves over a common axis, with bands of ±1.96 standard errors.

    Args:
        series: curves with ascending x.
        xlabel: with its unit.
        ylabel: with its unit.
        reference: named levels, drawn as horizontal lines.
        log_y: logarithmic vertical axis.

    Raises:
        ShapeError: if the parts of a series differ in length.
    """
    figure, axes = _axes(xlabel, ylabel)
    for number, item in enumerate(series):
        x, y, se = _arrays(item)
        index = thin(x, y)
        look = (number if item.style is None else item.style) % 7
        colour, dash = COLOURS[look], _DASHES[look]
        axes.plot(x[index], y[index], color=colour, linestyle=dash, label=item.label)
        if se is not None:
            low, high = (y - 1.96 * se)[index], (y + 1.96 * se)[index]
            axes.fill_between(x[index], low, high, color=colour, alpha=0.18, linewidth=0)
    for name, level in (reference or {}).items():
        axes.axhline(level, color=_INK, linewidth=1, linestyle=(0, (4, 3)), label=name)
    if log_y:
        axes.set_yscale("log")
    return _finish(figure, axes, len(series) + len(reference or {}))


def scatter_path(
    series: Sequence[Series],
    *,
    xlabel: str,
    ylabel: str,
    frontier: Series | None = None,
) -> Figure:
    """Paths through a plane, such as reward against KL, each with its own colour and marker.

    Args:
        series: points in the order they were visited; x need not ascend. The last is the largest.
        xlabel: with its unit.
        ylabel: with its unit.
        frontier: the best that is possible, drawn as a dark line.

    Raises:
        ShapeError: if the parts of a series differ in length.
    """
    figure, axes = _axes(xlabel, ylabel)
    if frontier is not None:
        x, y, _ = _arrays(frontier)
        index = thin(x, y)
        axes.plot(x[index], y[index], color=_INK, linewidth=1.4, label=frontier.label)
    for number, item in enumerate(series):
        x, y, se = _arrays(item)
        index = thin(np.arange(len(x), dtype=np.float64), y)
        look = (number if item.style is None else item.style) % 7
        colour, marker = COLOURS[look], _MARKERS[look]
        bars = None if se is None else 1.96 * se[index]
        style: dict[str, Any] = {"marker": marker, "markersize": 3.5, "linewidth": 1}
        axes.errorbar(x[index], y[index], bars, color=colour, label=item.label, **style)
        axes.plot(x[-1:], y[-1:], color=colour, marker=marker, markersize=8)
    return _finish(figure, axes, len(series) + (frontier is not None))


def points_figure(
    groups: Mapping[str, ArrayLike], *, xlabel: str, ylabel: str, limit: int = 2000
) -> Figure:
    """Clouds of points, each with its own colour and marker.

    Args:
        groups: name -> [N, 2] points; empty ones are left out.
        xlabel: with its unit.
        ylabel: with its unit.
        limit: most points drawn in all; of larger clouds every k-th.

    Raises:
        ShapeError: if points are not [N, 2].
    """
    clouds = {name: np.asarray(points, dtype=np.float64) for name, points in groups.items()}
    for name, points in clouds.items():
        if points.ndim != 2 or points.shape[1] != 2:
            raise ShapeError(f"points of {name!r} must be [N, 2], got {points.shape}")
    every = max(1, -(-sum(map(len, clouds.values())) // limit))
    figure, axes = _axes(xlabel, ylabel, height=4.2)
    number = 0
    for name, points in clouds.items():
        if not len(points):
            continue
        # Another marker for every round of colours, so that no two groups look the same.
        look = number % len(COLOURS)
        marker = _MARKERS[(number + number // len(COLOURS)) % len(_MARKERS)]
        style: dict[str, Any] = {"marker": marker, "s": 9, "linewidths": 0, "alpha": 0.65}
        axes.scatter(*points[::every].T, color=COLOURS[look], label=name, **style)
        number += 1
    return _finish(figure, axes, number)


def bar_with_errors(
    labels: Sequence[str],
    values: Sequence[float],
    errors: Sequence[float] | None = None,
    *,
    xlabel: str,
    reference: Mapping[str, float] | None = None,
) -> Figure:
    """Horizontal bars, which leave room for long names, with ±1.96 standard errors.

    Args:
        labels: one per bar, from top to bottom.
        values: one per bar.
        errors: standard errors, one per bar.
        xlabel: what the values are, with their unit.
        reference: named levels, drawn as vertical lines.

    Raises:
        ShapeError: if the lengths differ.
    """
    if len(labels) != len(values) or (errors is not None and len(errors) != len(values)):
        raise ShapeError(
            f"{len(labels)} labels, {len(values)} values"
            + ("" if errors is None else f" and {len(errors)} errors")
            + "; one of each per bar is needed"
        )
    figure, axes = _axes(xlabel, "", height=1.0 + 0.32 * len(labels))
    places = np.arange(len(labels))
    bars = None if errors is None else 1.96 * np.asarray(errors, dtype=np.float64)
    heights = np.asarray(values, dtype=np.float64)
    axes.barh(places, heights, xerr=bars, height=0.62, color=COLOURS[0], ecolor=_INK, capsize=3)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    levels = list((reference or {}).items())
    for number, (name, level) in enumerate(levels):
        colour, dash = COLOURS[(number + 1) % 7], _DASHES[(number + 1) % 7]
        axes.axvline(level, color=colour, linestyle=dash, linewidth=1.4, label=name)
    return _finish(figure, axes, 2 if levels else 0)


def to_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element that fills its container; equal figures, equal bytes."""
    import matplotlib as mpl  # noqa: PLC0415 - its import is slow and only reports need it

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "esscher", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    svg = text[text.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    head, _, body = svg.partition(">")
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return f'{head} role="img">{body}'


def _axes(xlabel: str, ylabel: str, height: float = 2.9) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - see to_svg

    figure = Figure(figsize=(5.4, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel, color=_INK, fontsize=9)
    axes.set_ylabel(ylabel, color=_INK, fontsize=9)
    axes.grid(visible=True, color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=3, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9aa3ad")
    return figure, axes


def _finish(figure: Figure, axes: Axes, entries: int) -> Figure:
    if entries > 1:
        figure.legend(loc="outside upper left", ncols=min(entries, 2), frameon=False, fontsize=8)
    return figure


def _arrays(
    item: Series,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
    x, y = np.asarray(item.x, dtype=np.float64), np.asarray(item.y, dtype=np.float64)
    se = None if item.se is None else np.asarray(item.se, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or (se is not None and se.shape != x.shape):
        got = ", ".join(str(part.shape) for part in (x, y, se) if part is not None)
        raise ShapeError(f"series {item.label!r} needs x, y and se of one shape [N], got {got}")
    return x, y, se
