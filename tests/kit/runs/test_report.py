import math
import re
from html.parser import HTMLParser

import pytest

from esscher.errors import DataError
from esscher.kit.runs.figures import Series, line_figure
from esscher.kit.runs.report import Card, Missing, Report, Verdict

EVIL = '<script>alert("x")</script>'
VOID = {"meta", "path", "use", "br", "rect", "image"}


class Checker(HTMLParser):
    """Every tag is closed in order, and nothing is fetched from outside."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.tags = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        outside = [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        assert all(value.startswith("#") for value in outside), outside

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def full_report():
    number = {"mean": 0.47623, "se": 0.01234, "n": 2000}
    figure = line_figure([Series("a", [0, 1], [1, 2])], xlabel="step", ylabel="KL, nats")
    return (
        Report(f"demo {EVIL}", "seed 0")
        .cards([Card("KL, nats", number, EVIL), Card("k-hat", Missing("too few draws"))])
        .section(f"How close {EVIL}")
        .paragraph(EVIL)
        .figure(figure, f"the curve {EVIL}")
        .table(["method", "KL"], [["a", number], [EVIL, None], ["c", math.nan]], "caption")
        .verdicts([Verdict("a", "holds", "1 < 2"), Verdict(EVIL, "fails"), Verdict("?", "open")])
        .samples_side_by_side({"prior": [EVIL, ""], f"tuned {EVIL}": ["def f(): ..."]})
        .details("config", f"a = 1\n{EVIL}")
    )


def test_a_report_is_well_formed_and_escapes_everything():
    html = full_report().html()
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert {"svg", "table", "pre", "details", "figcaption"} <= checker.tags
    assert "script" not in checker.tags
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", html)


def test_numbers_carry_their_error_and_their_sample_size():
    html = full_report().html()
    assert '<td class="number">0.476 ± 0.012 (n=2,000)</td>' in html
    assert "n = 2,000 · &lt;script" in html


def test_what_is_missing_is_said_in_words():
    html = full_report().html()
    assert '<span class="missing">not available: too few draws</span>' in html
    assert html.count(">not available<") == 2
    assert not re.search(r"\bnan\b", html, re.IGNORECASE)


def test_verdicts_are_words_not_only_colours():
    html = full_report().html()
    for word in ("✓ holds", "✗ fails", "? open"):
        assert word in html


def test_equal_reports_are_equal_bytes_and_replace_the_old_file(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    assert full_report().write(path) == path
    first = path.read_bytes()
    full_report().write(path)
    assert path.read_bytes() == first
    assert len(first) < 100_000
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_an_empty_table_has_its_headings():
    assert '<th class="words">KL</th>' in Report("x").table(["KL"], []).html()


def test_wrong_parts_are_refused():
    with pytest.raises(DataError, match="row 1 has 1 cells for 2 columns"):
        Report("x").table(["a", "b"], [[1, 2], [3]])
    with pytest.raises(DataError, match="<svg> text"):
        Report("x").figure("<img src=x>", "caption")
