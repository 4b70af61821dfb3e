"""A tree of decisions drawn as an indented outline, which stays legible on a narrow screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from esscher.kit.runs.figures import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Outline", "outline_figure"]

WIDTH, ROW, INDENT = 5.4, 0.56, 0.3
"""Inches: of the figure, of a row, and of one step to the right."""
_INK, _SOFT, _LINE = "#2b3138", "#59636e", "#9aa3ad"


@dataclass(frozen=True)
class Outline:
    """A node and what follows it.

    Attributes:
        text: what is done here.
        condition: when one gets here from the node above; "" at the root.
        share: of all plays that get here, in [0, 1].
        style: number of its colour.
        parts: what follows.
    """

    text: str
    condition: str = ""
    share: float = 1.0
    style: int = 0
    parts: tuple[Outline, ...] = ()


def outline_figure(root: Outline) -> Figure:
    """The tree, a row per node, from top to bottom; on the right the share of plays."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - its import is slow

    rows = list(_rows(root, 0))
    height = ROW * len(rows) + 0.1
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(-height, 0)
    axes.set_axis_off()
    above: dict[int, float] = {}
    for number, (node, depth) in enumerate(rows):
        top = -0.05 - ROW * number
        middle = top - ROW / 2
        _row(axes, node, depth, top)
        if depth:
            x = 0.1 + INDENT * (depth - 0.5)
            axes.plot(
                [x, x, 0.1 + INDENT * depth],
                [above[depth - 1], middle, middle],
                color=_LINE,
                linewidth=1,
            )
        above[depth] = top - ROW + 0.06
    return figure


def _rows(node: Outline, depth: int) -> Iterator[tuple[Outline, int]]:
    yield node, depth
    for part in node.parts:
        yield from _rows(part, depth + 1)


def _row(axes: Axes, node: Outline, depth: int, top: float) -> None:
    from matplotlib.patches import FancyBboxPatch, Rectangle  # noqa: PLC0415 - see outline_figure

    left, bottom, high = 0.1 + INDENT * depth, top - ROW + 0.06, ROW - 0.12
    colour = COLOURS[node.style % len(COLOURS)]
    frame: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.05", "linewidth": 0}
    axes.add_patch(
        FancyBboxPatch((left, bottom), WIDTH - 0.1 - left, high, color=colour, alpha=0.11, **frame)
    )
    axes.add_patch(Rectangle((left, bottom), 0.05, high, color=colour, linewidth=0))
    middle = bottom + high / 2
    offset = 0.1 if node.condition else 0.0
    if node.condition:
        axes.text(
            left + 0.13, middle + offset, node.condition, va="center", fontsize=7.5, color=_SOFT
        )
    axes.text(left + 0.13, middle - offset, node.text, va="center", fontsize=9, color=_INK)
    axes.text(
        WIDTH - 0.2, middle, _percent(node.share), va="center", ha="right", fontsize=8, color=_SOFT
    )


def _percent(share: float) -> str:
    """Shares that are not 0 or 1 are not shown as such."""
    if 0 < share < 0.005:
        return "< 1 %"
    if 0.995 <= share < 1:
        return "> 99 %"
    return f"{100 * share:.0f} %"
