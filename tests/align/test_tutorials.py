"""The tutorials run as they stand, and print what they say up to the last digits."""

import itertools
import re
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs/tutorials").glob("*.md"))
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\s*```text( \w+)?\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+|\d+")


def agrees(printed, shown):
    """The same words and, up to a fifth or 0.05, the same numbers."""
    assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", shown).split()
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    for got, said in pairs:
        assert float(got) == pytest.approx(float(said), rel=0.2, abs=0.05), (printed, shown)
    rows = [
        [(float(got), float(said)) for got, said in zip(*map(NUMBER.findall, both), strict=True)]
        for both in zip(printed.splitlines(), shown.splitlines(), strict=True)
    ]
    for one, other in itertools.combinations(rows, 2):
        for (a, x), (b, y) in zip(one, other, strict=False):
            # What the page shows to be a fifth better is better.
            assert a < b or not 1.2 * x < y, (printed, shown)
            assert b < a or not 1.2 * y < x, (printed, shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_prints_what_it_shows(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(page.read_text())
    assert len(blocks) >= 4
    names = {"__name__": "tutorial"}
    for number, (code, kind, shown) in enumerate(blocks):
        exec(compile(code, f"{page.name}, block {number}", "exec"), names)
        printed = capsys.readouterr().out
        if kind.strip() == "draws":
            assert printed.count("\n") == shown.count("\n")
        else:
            agrees(printed, shown)


def test_there_are_two():
    assert len(PAGES) == 2
