"""What the documents show is what happens."""

import re
import runpy
from pathlib import Path

import pytest

from esscher.align import OBJECTIVES, SAMPLERS

ROOT = Path(__file__).parents[2]


def test_readme_example_prints_what_it_says(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    said = code.strip().splitlines()[-1].removeprefix("# ")
    assert capsys.readouterr().out.strip() == said


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_its_line(name):
    page = (ROOT / "docs/systems/align.md").read_text()
    table = page.partition("## Objectives")[2].partition("## Metrics")[0]
    (line,) = [row for row in table.splitlines() if row.startswith(f"| `{name}` |")]
    minimises = OBJECTIVES[name].minimises
    assert minimises is None or minimises.split("/")[0] in line


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_has_its_line(name):
    page = (ROOT / "docs/systems/align.md").read_text()
    table = page.partition("## Samplers")[2].partition("## Metrics")[0]
    (line,) = [row for row in table.splitlines() if row.startswith(f"| `{name}` |")]
    assert ("not p*" in line) == (SAMPLERS[name].minimises is None)


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=str)
def test_links_between_documents_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("script", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.stem)
def test_examples_run_and_are_short(script, capsys):
    assert len(script.read_text().splitlines()) <= 50
    runpy.run_path(str(script), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) >= 3


def test_the_example_ends_near_its_target(capsys):
    runpy.run_path(str(ROOT / "examples/align.py"), run_name="__main__")
    said = capsys.readouterr().out
    start, *steps = map(float, re.findall(r"(?:log Z -|KL\(p\*‖π\) )([\d.]+)", said))
    assert start > 2
    assert 0 < steps[-1] < 0.05
    prior, policy = map(float, re.findall(r"accepts ([\d.]+)", said))
    assert policy > 0.8 > 8 * prior
