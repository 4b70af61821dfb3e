import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from esscher.cli import main
from esscher.cli.doctor import EXTRAS
from esscher.kit.runs.folder import Run


@dataclass(frozen=True)
class Config:
    steps: int = 1


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments):
        code = 0
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


def make_run(name, kl=None, root=Path("runs")):
    run = Run.create(root, "align", "fit", name, config=Config(), seed=0)
    run.log(3, loss=1.5)
    if kl is not None:
        (run.path / "report.html").write_text("")
        run.finish({"exact": {"kl": {"mean": kl, "se": 0.01, "n": 50}}, "rows": [1]})
    return run


def test_show_compares_runs(call):
    one, two = make_run("one", 0.5), make_run("two", 0.25)
    code, out, _ = call("show", str(one.path), str(two.path), "--json")
    shown = json.loads(out)
    assert code == 0
    assert [row["status"] for row in shown["runs"]] == ["done", "done"]
    assert [row["step"] for row in shown["runs"]] == [3, 3]
    assert shown["runs"][0]["report"] == str(one.path / "report.html")
    (row,) = shown["numbers"]
    assert row["quantity"] == "exact.kl"
    assert row[one.path.name]["mean"] == 0.5
    assert row[two.path.name]["mean"] == 0.25


def test_show_without_a_name_takes_all_and_prints_tables(call):
    make_run("one", 0.5)
    make_run("two")
    code, out, _ = call("show")
    assert code == 0
    for text in ("done", "interrupted", "0.500 ± 0.010 (n=50)", "loss", "1.5", "not available"):
        assert text in out


def test_show_names_what_is_no_run(call, tmp_path):
    assert call("show")[0] == 2
    (tmp_path / "empty").mkdir()
    code, _, err = call("show", "empty")
    assert code == 2
    assert "empty is not a run folder" in err


BENCHMARK = """
import json, sys
print("a table")
ok = "--quick" in sys.argv
print(json.dumps({"ok": ok, "numbers": [{"benchmark": "toy", "number": "kl", "passes": ok}]}))
sys.exit(not ok)
"""


def bench_folder(tmp_path, text=BENCHMARK):
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "toy.py").write_text(text)
    (folder / "_shared.py").write_text("raise AssertionError('not a benchmark')")


@pytest.mark.parametrize(("flags", "code"), [(["--quick"], 0), ([], 1)])
def test_bench_reports_what_the_scripts_say(call, tmp_path, flags, code):
    bench_folder(tmp_path)
    got, out, err = call("bench", *flags, "--json")
    (row,) = json.loads(out)["benchmarks"]
    assert got == code
    assert row == {"benchmark": "toy", "number": "kl", "passes": code == 0}
    assert "benchmark toy" in err


def test_bench_that_crashes_is_not_ok(call, tmp_path):
    bench_folder(tmp_path, "raise SystemExit(3)")
    code, out, _ = call("bench", "toy", "--json")
    assert code == 1
    assert json.loads(out)["benchmarks"][0]["number"] == "exit code 3"


def test_bench_names_what_there_is(call, tmp_path):
    bench_folder(tmp_path)
    code, _, err = call("bench", "toi")
    assert code == 2
    assert "did you mean 'toy'" in err


def test_bench_outside_a_checkout_says_so(call, monkeypatch, tmp_path):
    import esscher

    monkeypatch.setattr(esscher, "__file__", str(tmp_path / "lib/site/esscher/__init__.py"))
    code, _, err = call("bench")
    assert code == 2
    assert "part of the source tree" in err


def test_doctor_reports_versions_and_extras(call):
    code, out, _ = call("doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["packages"]["torch"].startswith("2.")
    assert found["extras"][0]["extra"] == "lm"


def test_doctor_gives_the_pip_line_of_a_missing_extra(monkeypatch):
    from esscher.cli import doctor

    monkeypatch.setitem(doctor.EXTRAS, "lm", ("a-package-nobody-has",))
    extra, *_ = doctor.doctor()["extras"]
    assert extra["state"] == 'missing a-package-nobody-has; run: pip install "esscher[lm]"'


def test_the_extras_are_those_of_the_package():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    declared = project["project"]["optional-dependencies"]
    names = {
        extra: tuple(requirement.partition(">")[0] for requirement in requirements)
        for extra, requirements in declared.items()
        if extra not in ("dev", "all")
    }
    assert names == EXTRAS
