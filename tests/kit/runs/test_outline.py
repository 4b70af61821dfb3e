"""A tree of decisions as a picture."""

import html
import re

from esscher.kit.runs.figures import to_svg
from esscher.kit.runs.outline import Outline, outline_figure

TREE = Outline(
    "Open A",
    style=0,
    parts=(
        Outline("Stop", "best is 2 or more", 0.996, 2),
        Outline("Open B", "best is below 2", 0.004, 0, (Outline("Take C", "", 0.004, 1),)),
    ),
)


def texts(svg):
    return [html.unescape(t) for t in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def test_every_node_is_a_row_with_its_condition_and_share():
    found = texts(to_svg(outline_figure(TREE)))
    assert found == [
        "Open A", "100 %", "best is 2 or more", "Stop", "> 99 %", "best is below 2", "Open B",
        "< 1 %", "Take C", "< 1 %",
    ]  # fmt: skip


def test_rows_go_down_and_parts_to_the_right():
    (axes,) = outline_figure(TREE).axes
    places = {t.get_text(): t.get_position() for t in axes.texts}
    assert places["Open A"][1] > places["Stop"][1] > places["Open B"][1] > places["Take C"][1]
    assert places["Open A"][0] < places["Stop"][0] == places["Open B"][0] < places["Take C"][0]
    assert len(axes.lines) == 3


def test_the_picture_grows_with_the_tree_and_equal_trees_are_equal_bytes():
    tall, small = outline_figure(TREE), outline_figure(Outline("Stop"))
    assert tall.get_size_inches()[1] > small.get_size_inches()[1]
    assert tall.get_size_inches()[0] == small.get_size_inches()[0]
    assert to_svg(outline_figure(TREE)) == to_svg(outline_figure(TREE))
