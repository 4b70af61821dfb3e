"""`esscher branch fit` and `demo` through the command line."""

import json
import subprocess
import sys

import pytest

from esscher.branch.learning import DemoOptions, FitOptions, train_config
from esscher.cli import main
from esscher.errors import ConfigError


def run(capsys, *words):
    code = 0
    try:
        main(["branch", *words])
    except SystemExit as stop:
        code = stop.code or 0
    out = capsys.readouterr()
    return code, out.out, out.err


def test_a_fit_is_a_policy_that_solves_and_a_report(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(
        capsys, "fit", "--problems", "setcover-100x100", "--episodes", "6", "--minutes", "inf",
        "--validation", "2", "--width", "8", "--json",
    )  # fmt: skip
    assert code == 0
    told = json.loads(out)
    assert told["instances"] == 6
    assert told["nodes_gmean_best"] <= told["nodes_gmean_first"]
    page = (tmp_path / told["report"]).read_text(encoding="utf-8")
    assert "A policy that branches" in page
    assert run(capsys, "generate", "setcover-165x230", "--count", "1", "--out", "held")[0] == 0
    (file,) = (tmp_path / "held").glob("*.mps")
    code, out, _ = run(capsys, "solve", str(file), "--policy", told["run"], "--settings", "bare",
                       "--json")  # fmt: skip
    assert code == 0
    solved = json.loads(out)
    assert {"status", "objective", "nodes", "decisions", "lp_iterations", "seconds"} <= set(solved)
    assert solved["status"] == "optimal"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--method", "retrp"], "retro"),
        (["--problems", "setcover-1x1"], "setcover-100x100"),
        (["--minutes", "0"], "minutes"),
        (["--n-step", "0"], "n_step"),
        (["--width", "0"], "width"),
        (["--validation", "1"], "validation"),
        (["--scale", "processes:x"], "processes"),
        (["--minutes", "inf"], "episodes"),
        (["--method", "imitation", "--head", "dueling"], "softmax"),
    ],
)
def test_wrong_flags_are_named_and_leave_no_run(tmp_path, capsys, monkeypatch, words, named):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "fit", *words)
    assert code == 2
    assert named in err
    assert not list(tmp_path.iterdir())


def test_a_demo_of_nothing_is_refused_before_it_trains():
    with pytest.raises(ConfigError, match="instances"):
        DemoOptions(instances=0)
    with pytest.raises(ConfigError, match="minutes"):
        DemoOptions(minutes=0.0)


def test_flags_reach_the_learner():
    config = train_config(FitOptions(method="imitation", lr=0.01, samples=60, features="retro43"))
    assert (config.cloning.lr, config.imitation.samples) == (0.01, 60)
    assert config.network.features == "retro43"
    assert train_config(FitOptions()).network.head == "dueling"
    assert train_config(FitOptions(head="plain")).network.head == "plain"
    published = train_config(FitOptions(published=True))
    assert published.problem == "setcover-500x1000"
    assert published.network.width == 64
    assert (published.network.head, published.network.output) == ("plain", "value")


@pytest.mark.slow
def test_the_demo_ends_with_the_numbers_others_script_against(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "esscher", "branch", "demo", "--json", "--minutes", "0.2",
         "--instances", "4"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert (tmp_path / told["report"]).is_file()
    assert {"random", "retro", "strong"} <= set(told["policies"])
    for row in told["policies"].values():
        assert {"nodes_mean", "nodes_gmean", "wins", "seconds_gmean"} <= set(row)
