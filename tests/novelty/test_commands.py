"""`esscher novelty`, run as a user runs it."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from esscher.cli import main
from esscher.kit.data.table import read_table, write_table
from esscher.kit.runs.record import Record
from esscher.novelty.follow import Follower

QUICK = ["--n-init", "1"]


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys):
    """A working folder with a published design in two files."""
    monkeypatch.chdir(tmp_path)
    call(capsys, "simulate", "--dim", "3", "--factor", "0.5")
    return tmp_path


def call(capsys, *arguments):
    """Exit code and the JSON object on standard output."""
    code = 0
    quiet = [] if arguments[0] in ("simulate", "predict") else ["-q"]
    try:
        main(["novelty", *arguments, "--json", *quiet])
    except SystemExit as end:
        code = end.code
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1
    return code, json.loads(lines[0])


def test_fit_labels_every_row_of_the_batch(folder, capsys):
    code, found = call(
        capsys, "fit", "train.csv", "--label", "label", "--new", "test.csv", "--truth", "truth",
        "--out", "labels.csv", *QUICK,
    )  # fmt: skip
    assert code == 0
    assert found["converged"] is True
    assert found["novelty_accuracy"] > 0.99
    assert len(found["starts"]) == 1
    assert found["starts"][0]["elbo"] == found["elbo"]
    assert found["n_novel_clusters"] >= 3
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["label", "novelty_probability", "cluster"]
    truth = read_table(folder / "test.csv").text("truth")
    assert len(rows) == len(truth) == found["rows"]
    for row, true in zip(rows[:100], truth[:100], strict=True):
        assert row["label"] == true
        assert float(row["novelty_probability"]) < 0.5
        assert int(row["cluster"]) == int(true) - 1
    assert {row["label"] for row in rows[-20:]} == {"novel"}
    run = Record(folder / found["run"])
    assert run.result()["elbo"] == found["elbo"]
    (row,) = run.metrics()
    assert row["bound"] == pytest.approx(found["elbo"])
    page = (folder / found["report"]).read_text(encoding="utf-8")
    for word in ("Known classes", "Against the truth", "Starts", "P(novel)"):
        assert word in page


def test_further_rows_are_labelled_without_a_fit(folder, capsys):
    _, found = call(capsys, "fit", "train.csv", "--new", "test.csv", "--out", "first.csv", *QUICK)
    code, told = call(capsys, "predict", found["run"], "test.csv", "--out", "second.parquet")
    assert code == 0
    assert told["rows"] == found["rows"]
    first, second = (read_table(folder / name) for name in ("first.csv", "second.parquet"))
    assert (first.text("label") == second.text("label")).mean() > 0.98
    _, shown = call(capsys, "predict", found["run"], "test.csv")
    assert shown["labels"] == second.text("label").tolist()
    # Columns are found by name, in whatever order.
    table = read_table(folder / "test.csv")
    names = ["x3", "x1", "x2"]
    write_table(folder / "turned.csv", names, table.numbers(names).tolist())
    assert call(capsys, "predict", found["run"], "turned.csv")[1] == shown
    write_table(folder / "short.csv", names[:2], table.numbers(names[:2]).tolist())
    code, told = call(capsys, "predict", found["run"], "short.csv")
    assert code == 2
    assert "has no column 'x2'" in told["error"]["message"]


def test_compare_sets_detectors_beside_it(folder, capsys):
    code, found = call(
        capsys, "compare", "train.csv", "--new", "test.csv", "--truth", "truth", *QUICK
    )
    assert code == 0
    rows = {row["method"]: row for row in found["methods"]}
    assert len(rows) == 8
    assert rows["this model"]["auc"] > 0.999
    assert rows["this model"]["ari"] > rows["Dirichlet-process mixture"]["ari"] - 0.1
    assert rows["isolation forest"]["ari"] is None
    assert "Beside other detectors" in (folder / found["report"]).read_text(encoding="utf-8")


def test_one_seed_one_result(folder, capsys):
    first, second = (
        call(capsys, "fit", "train.csv", "--new", "test.csv", *QUICK, "--seed", "3")[1]
        for _ in range(2)
    )
    assert first["elbo"] == second["elbo"]
    assert first["starts"] == second["starts"]


SAMPLED = ["--n-samples", "70", "--burn-in", "60"]
FITS = {
    "vb": ["--n-init", "3"],
    "svi": ["--inference", "svi", "--n-init", "3"],
    "gibbs": ["--inference", "gibbs", *SAMPLED],
    "slice": ["--inference", "slice", *SAMPLED],
}


@pytest.mark.parametrize(
    "inference", ["vb", "svi", "slice", pytest.param("gibbs", marks=pytest.mark.slow)]
)
def test_an_interrupted_fit_goes_on_to_the_same_numbers(folder, capsys, monkeypatch, inference):
    fit = ["fit", "train.csv", "--new", "test.csv", "--truth", "truth", *FITS[inference]]
    _, wanted = call(capsys, *fit, "--out", "whole.csv")
    keep = Follower.keep

    def interrupted(self, done, *rest):
        keep(self, done, *rest)
        if done in (2, 100):
            raise KeyboardInterrupt

    monkeypatch.setattr(Follower, "keep", interrupted)
    assert call(capsys, *fit, "--out", "parts.csv", "--name", "parts")[0] == 130
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    (run,) = (folder / "runs").glob("*parts*")
    assert Record(run).status() == "interrupted"
    assert [row["step"] for row in Record(run).metrics()][-1] in (2, 100)
    code, found = call(capsys, "fit", "--resume", str(run))
    assert code == 0
    different = {"report", "run", "out"}
    assert {k: v for k, v in found.items() if k not in different} == {
        k: v for k, v in wanted.items() if k not in different
    }
    assert (folder / "parts.csv").read_bytes() == (folder / "whole.csv").read_bytes()
    one, other = (
        [{k: v for k, v in row.items() if k != "time"} for row in Record(r).metrics()]
        for r in (run, folder / wanted["run"])
    )
    assert one == other
    # What is done is not done again, and other rows are refused.
    assert call(capsys, "fit", "--resume", str(run))[1]["elbo"] == wanted["elbo"]
    rows = read_table(folder / "test.csv").rows
    write_table(folder / "test.csv", ["x1", "x2", "x3", "truth"], rows[::-1])
    code, told = call(capsys, "fit", "--resume", str(run))
    assert code == 1
    assert "was made with other rows" in told["error"]["message"]
    code, told = call(capsys, "fit", "--resume", str(run), "--seed", "5")
    assert code == 1
    assert "different: seed" in told["error"]["message"]


@pytest.mark.parametrize("inference", ["gibbs", "slice"])
def test_a_sampler_says_the_same_of_the_batch(folder, capsys, inference):
    code, found = call(
        capsys, "fit", "train.csv", "--new", "test.csv", "--truth", "truth", "--out", "labels.csv",
        *FITS[inference],
    )  # fmt: skip
    assert code == 0
    assert found["elbo"] is None
    assert found["novelty_accuracy"] > 0.98
    assert isinstance(found["converged"], bool)
    (start,) = found["starts"]
    assert start["sweeps"] == 130
    assert start["scale_reduction"] > 0
    assert len(read_table(folder / "labels.csv").rows) == found["rows"]
    page = (folder / found["report"]).read_text(encoding="utf-8")
    for word in ("Chain", "number of clusters", "log joint", "scale reduction"):
        assert word in page
    assert call(capsys, "predict", found["run"], "test.csv")[1]["rows"] == found["rows"]


def test_progress_says_how_far_it_is(folder, capsys):
    for options, word in ((QUICK, "ascents  1/1"), (FITS["gibbs"], "gibbs sweeps  130/130")):
        main(["novelty", "fit", "train.csv", "--new", "test.csv", *options])
        told = capsys.readouterr().err
        assert word in told
        assert "clusters" in told
    assert "log joint" in told


def test_the_demo_finds_the_digits_it_was_not_told_about(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, found = call(capsys, "demo")
    assert code == 0
    rows = {row["method"]: row for row in found["methods"]}
    assert found["auc"] > 0.95
    assert found["ari"] > rows["Dirichlet-process mixture"]["ari"] + 0.1
    assert (tmp_path / found["report"]).exists()


def test_the_demo_has_other_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, found = call(capsys, "demo", "--data", "wine")
    assert code == 0
    assert found["rows"] == 89
    assert "A cultivar nobody told it about" in (tmp_path / found["report"]).read_text()
    monkeypatch.setattr("esscher.kit.data.registry.BESIDE", tmp_path)
    monkeypatch.setenv("ESSCHER_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, told = call(capsys, "demo", "--data", "landsat")
    assert code == 2
    assert "esscher data get statlog" in told["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit"], "train is missing"),
        (["fit", "train.csv"], "new is missing"),
        (["fit", "gone.csv", "--new", "test.csv"], "cannot read gone.csv"),
        (["fit", "train.csv", "--new", "test.csv", "--label", "lable"], "did you mean 'label'"),
        (["fit", "train.csv", "--new", "test.csv", "--truth", "true"], "did you mean 'truth'"),
        (["fit", "train.csv", "--new", "train.csv", "--truth", "truth"], "no column 'truth'"),
        (["compare", "train.csv", "--new", "test.csv"], "needs the true classes"),
        (["fit", "train.csv", "--new", "test.csv", "--stick-concentration", "many"], "or gamma"),
        (["fit", "train.csv", "--new", "test.csv", "--truncation", "0"], "truncation must be"),
        (["fit", "train.csv", "--new", "test.csv", "--n-samples", "0"], "n_samples must be"),
        (["fit", "train.csv", "--new", "test.csv", "--inference", "mc"], "vb"),
        (["simulate", "--dim", "1"], "dim must be at least 2"),
    ],
)
def test_bad_input_is_a_typed_error_before_there_is_a_run(folder, capsys, arguments, message):
    code, told = call(capsys, *arguments)
    assert code == 2
    assert message in told["error"]["message"]
    assert not (folder / "runs").exists()


def test_a_folder_without_a_model_is_a_fault(folder, capsys):
    code, told = call(capsys, "predict", "gone", "test.csv")
    assert code == 1
    assert "holds no novelty model" in told["error"]["message"]


def test_a_text_column_is_named(folder, capsys):
    rows = read_table(folder / "train.csv").rows
    write_table(folder / "words.csv", ["x1", "x2", "x3", "label"], [["red", *r[1:]] for r in rows])
    code, told = call(capsys, "fit", "words.csv", "--new", "test.csv")
    assert code == 2
    assert "column 'x1' holds 'red' in row 1" in told["error"]["message"]


def test_without_scikit_learn_the_pip_line_is_named():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from esscher.novelty import simulate\n"
        "simulate()\n"
        "from esscher.novelty import NoveltyClassifier\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'pip install "esscher[sklearn]"' in done.stderr
    assert "simulate()" not in done.stderr.splitlines()[-1]


def test_probabilities_are_shares(folder, capsys):
    call(capsys, "fit", "train.csv", "--new", "test.csv", "--out", "labels.csv", *QUICK)
    found = read_table(folder / "labels.csv").numbers(["novelty_probability"])
    assert bool(((found >= 0) & (found <= 1)).all())
    assert len(np.unique(found)) > 100
