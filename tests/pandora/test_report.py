"""What the report draws and says."""

import numpy as np
import pytest

from esscher.kit.runs.report import Report
from esscher.pandora import Box, PandoraInstance, solve
from esscher.pandora.explain import decision_tree
from esscher.pandora.families import FAMILIES, tight
from esscher.pandora.report import add_instance, outline_of, payoff_figure, simulate_all


def test_stairs_are_shares_of_plays():
    instance = tight(height=10.0)
    played = simulate_all(instance, solve(instance, 0.0), 3000, 0)
    (axes,) = payoff_figure(played, "k€").axes
    assert "k€" in axes.get_xlabel()
    for line, sim in zip(axes.lines, played.values(), strict=True):
        x, y = line.get_data()
        assert y[0] == 1.0
        assert y[-1] == 0.0
        for level in np.unique(sim.payoffs):
            share = float((sim.payoffs >= level).mean())
            assert share == pytest.approx(y[np.argmax(x == level)])


def test_the_drawing_is_the_tree():
    policy = solve(FAMILIES["exposed"](6, 0), 0.0).policy
    tree, drawn = decision_tree(policy), outline_of(decision_tree(policy), "€")
    todo = [(tree, drawn)]
    while todo:
        node, row = todo.pop()
        assert (row.text, row.condition, row.share) == (
            node.action("€"), node.condition("€"), node.share,
        )  # fmt: skip
        todo += zip(node.parts, row.parts, strict=True)


@pytest.mark.parametrize(
    "instance",
    [
        PandoraInstance([]),
        PandoraInstance([Box([1.0], [1.0], 0.5, "sure")]),
        PandoraInstance([Box([0.0, 4.0], [0.5, 0.5], 0.1, "<b>")], outside=-np.inf),
        FAMILIES["random"](60, 0),
        PandoraInstance(tight(height=9.0).boxes, 0.0, "obligatory"),
    ],
    ids=["no boxes", "one sure box", "no outside option", "many boxes", "obligatory"],
)
def test_every_kind_of_instance_has_a_report(instance):
    report = Report("r")
    add_instance(report, instance, solve(instance), plays=500)
    page = report.html()
    assert "What to do" in page
    assert "holds" in page
    assert "fails" not in page.partition("<main>")[2]
    assert "<b>" not in page.replace("&lt;b&gt;", "")
    if len(instance) == 60:
        assert "more boxes are left out" in page
