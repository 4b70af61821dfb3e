"""`esscher align prefer`, run as a user runs it, on a model small enough for seconds."""

import itertools
import json
from pathlib import Path

import pytest

from esscher.align.preferences import load_reward_model
from esscher.cli import main
from esscher.core import Reward, Target
from esscher.kit.lm.loading import load_language_model
from esscher.kit.lm.tabular import TabularLM
from esscher.kit.runs.record import Record
from tests.align.preferences.texts import comparisons
from tests.kit.lm.models import hf, small

FEW = ["--steps", "20", "--batch", "16", "--draws", "32"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with an enumerable prior and comparisons that prefer texts with more 1s."""
    monkeypatch.chdir(tmp_path)
    TabularLM(alphabet=2, max_len=4).save(tmp_path / "prior")
    texts = [" ".join(s) for n in range(5) for s in itertools.product("01", repeat=n)]
    pairs = [(x, y) for x, y in itertools.product(texts, texts) if x.count("1") > y.count("1")]
    write(tmp_path / "pairs.jsonl", [{"chosen": x, "rejected": y} for x, y in pairs])
    return tmp_path


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def call(capsys, *arguments):
    """Exit code and the JSON object on standard output."""
    code = 0
    try:
        main(["align", "prefer", *arguments, "--json", "-q"])
    except SystemExit as end:
        code = end.code
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1
    return code, json.loads(lines[0])


@pytest.mark.parametrize("method", ["dpo", "cdpo", "f_dpo", "ipo"])
def test_a_policy_is_trained_saved_and_reported(folder, capsys, method):
    code, result = call(
        capsys,
        "pairs.jsonl",
        "--prior",
        "prior",
        "--method",
        method,
        "--beta",
        "0.5",
        "--lr",
        "0.1",
        *FEW,
    )
    assert code == 0, result
    assert result["method"] == method
    assert result["beta"] == 0.5
    assert (result["minimises"] is None) == (method != "dpo")
    assert set(result["accuracy"]) >= {"mean", "se", "n"}
    assert result["accuracy_low"] > 0.7
    assert result["kl_prior"]["mean"] > 0
    assert sum(result["pairs"].values()) == len((folder / "pairs.jsonl").read_text().splitlines())
    assert (result["calibration"] == []) == (method == "ipo")
    run = Record(folder / result["run"])
    assert run.status() == "done"
    assert len(run.samples()) == 12
    assert load_language_model(run.path / "model").log_probs().shape == (31,)
    html = (folder / result["report"]).read_text()
    assert html.count("<svg") == (4 if method == "ipo" else 5)
    assert "NaN" not in html
    assert "better than a coin" in html


def test_a_reward_model_is_evidence_afterwards(folder, capsys):
    code, result = call(
        capsys, "pairs.jsonl", "--prior", "prior", "--method", "reward_model", *FEW, "--lr", "0.1"
    )
    assert code == 0, result
    assert "kl_prior" not in result
    assert result["accuracy_low"] > 0.9
    prior = load_language_model(folder / "prior")
    model = load_reward_model(folder / result["run"], prior)
    table = Target(prior, Reward(model, beta=0.5)).table()
    x = prior.enumerate()
    ones = [item.count(1) for item in prior.items(x)]
    before = sum(p * n for p, n in zip(prior.log_prob(x).exp().tolist(), ones, strict=True))
    after = sum(p * n for p, n in zip(table.probs.tolist(), ones, strict=True))
    assert after > before + 0.5
    html = (folder / result["report"]).read_text()
    assert html.count("<svg") == 4
    assert "share in which it was preferred" in html


def test_a_text_model_with_prompts_shows_what_it_writes(folder, capsys):
    small(max_new=5).save(folder / "texts")
    given = comparisons(80, prompts=True)
    rows = zip(given.prompts, given.chosen, given.rejected, strict=True)
    write(folder / "p.jsonl", [{"prompt": p, "chosen": x, "rejected": y} for p, x, y in rows])
    code, result = call(capsys, "p.jsonl", "--prior", "texts", "--held-out", "0.2", *FEW)
    assert code == 0, result
    assert {row["prompt"] for row in Record(folder / result["run"]).samples()} == {"ab", "c"}


def test_a_resumed_run_has_the_numbers_of_an_uninterrupted_one(folder, capsys):
    arguments = ["--pairs", "pairs.jsonl", "--prior", "prior", *FEW]
    _, whole = call(capsys, *arguments)
    _, other = call(capsys, *arguments)
    run = folder / other["run"]
    newest = max((run / "state").glob("*-*"))
    (newest / "tensors.safetensors").write_bytes(b"damaged")
    (run / "result.json").unlink()
    with pytest.warns(RuntimeWarning, match="is damaged"):
        code, resumed = call(capsys, "--resume", other["run"])
    assert code == 0
    same = set(whole) - {"run", "report", "prior"}
    assert {k: resumed[k] for k in same} == {k: whole[k] for k in same}
    rows = [Record(folder / r["run"]).metrics() for r in (whole, resumed)]
    plain = [[{k: v for k, v in row.items() if k != "time"} for row in r] for r in rows]
    assert plain[0] == plain[1]
    assert len(Record(run).samples()) == 12


def test_a_person_sees_no_bins(folder, capsys):
    main(["align", "prefer", "pairs.jsonl", "--prior", "prior", "-q", *FEW])
    out = capsys.readouterr().out
    assert "accuracy_low" in out
    assert "observed" not in out


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["nothing.jsonl"], "DataError", "cannot read preferences from nothing.jsonl"),
        (["empty.jsonl"], "DataError", "empty.jsonl has no preference pair"),
        (["equal.jsonl"], "DataError", "equal.jsonl:2"),
        (["columns.jsonl"], "DataError", "'rejected' is missing"),
        (["same.jsonl"], "DataError", "all 30 pairs are the same comparison"),
        (["few.jsonl"], "DataError", "at least 10 must be held out"),
        (["long.jsonl"], "DataError", "more than 4 tokens"),
        ([], "ConfigError", "no preference pairs are given"),
        (["pairs.jsonl", "--beta", "0"], "ConfigError", "beta must be positive"),
        (["pairs.jsonl", "--method", "cdpo", "--smoothing", "0.5"], "ConfigError", "[0, 0.5)"),
        (["pairs.jsonl", "--l2", "0.1"], "ConfigError", "l2 does not belong to the method dpo"),
        (
            ["pairs.jsonl", "--method", "reward_model", "--beta", "1"],
            "ConfigError",
            "belongs to Reward(model, beta=...)",
        ),
    ],
)
def test_bad_input_is_a_typed_error_before_there_is_a_run(folder, capsys, arguments, kind, message):
    good = {"chosen": "1", "rejected": "0"}
    write(folder / "empty.jsonl", [])
    write(folder / "equal.jsonl", [good, {"chosen": "1", "rejected": "1"}])
    write(folder / "columns.jsonl", [{"chosen": "1"}])
    write(folder / "same.jsonl", [good] * 30)
    write(folder / "few.jsonl", [good, {"chosen": "1 1", "rejected": "0"}])
    write(folder / "long.jsonl", [{"chosen": "1 1 1 1 1", "rejected": "0"}])
    code, result = call(capsys, *arguments, "--prior", "prior")
    assert code == 2
    assert result["error"]["type"] == kind
    assert message in result["error"]["message"]
    assert not (folder / "runs").exists()


def test_adapters_on_a_real_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hf("gpt2", max_new=6).save(tmp_path / "prior")
    rows = [{"chosen": "a" * n, "rejected": "b" * m} for n in range(1, 5) for m in range(1, 5)]
    write(tmp_path / "pairs.jsonl", rows * 3)
    flags = [
        "pairs.jsonl",
        "--prior",
        "prior",
        "--lora-rank",
        "2",
        "--max-new",
        "5",
        *FEW,
        "--held-out",
        "0.4",
    ]
    code, result = call(capsys, *flags, "--lr", "0.01")
    assert code == 0, result
    model = Path(result["run"]) / "model"
    assert (model / "adapter").is_dir()
    before, after = (load_language_model(p) for p in (tmp_path / "prior", model))
    assert (before.max_new, after.max_new) == (6, 5)
    chosen = before.encode(["aa"])
    assert float(after.log_prob(chosen)) > float(before.log_prob(chosen))
    code, result = call(capsys, *flags, "--method", "reward_model")
    assert code == 2
    assert "lora_rank=2 adapts a policy" in result["error"]["message"]
