"""Every align command, run as a user runs it, on a model small enough for seconds."""

import json
from pathlib import Path

import pytest

from esscher.align import SAMPLERS
from esscher.align.compare import DRAWS, FITS
from esscher.align.pace import Pace
from esscher.cli import main
from esscher.kit.lm.tabular import TabularLM
from esscher.kit.runs.record import Record

EVIDENCE = """
def reward(xs):
    return [sum(a == 0 and b == 1 for a, b in zip(x, x[1:])) for x in xs]

def has_end(xs):
    return [x[-1] == 2 for x in xs]

def never(xs):
    return [False for _ in xs]

def one_at_most(xs):
    return [list(x).count(0) <= 1 for x in xs]

def broken(xs):
    return [float("nan") for _ in xs]
"""
NUMBERS = [
    "satisfied",
    "kl_target_model",
    "kl_model_target",
    "kl_model_prior",
    "tvd",
    "entropy",
    "distinct_2",
    "ess",
]


@pytest.fixture
def prior(tmp_path, monkeypatch):
    """A folder with an enumerable prior, in a working folder with evidence functions."""
    module = f"functions_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{module}.py").write_text(EVIDENCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    TabularLM(alphabet=2, max_len=4).save(tmp_path / "prior")
    return {"prior": str(tmp_path / "prior"), "module": module}


def call(capsys, *arguments):
    """Exit code and the JSON object on standard output."""
    code = 0
    try:
        main([*arguments, "--json", "-q"])
    except SystemExit as end:
        code = end.code
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1
    return code, json.loads(lines[0])


def evidence(prior, kind="--condition", name="has_end"):
    return ["--prior", prior["prior"], kind, f"{prior['module']}:{name}"]


def test_fit_then_evaluate_then_sample(prior, capsys, tmp_path):
    code, fitted = call(capsys, "align", "fit", *evidence(prior), "--steps", "150", "--n", "50")
    assert code == 0
    assert fitted["verdict"] == "close to target"
    assert (tmp_path / fitted["report"]).stat().st_size < 1_000_000
    assert Record(tmp_path / fitted["run"]).status() == "done"

    code, measured = call(
        capsys, "align", "evaluate", *evidence(prior), "--model", fitted["run"], "--n", "50"
    )
    assert code == 0
    assert set(measured) == {"report", "run", "prior", "objectives", "sampler"}
    assert set(measured["sampler"]["tvd"]) >= {"mean", "se", "n"}
    for name in NUMBERS:
        got = measured["objectives"]["forward_kl"][name]
        assert set(got) >= {"mean", "se", "n"}
        assert got == fitted[name]

    out = tmp_path / "draws.jsonl"
    code, drawn = call(
        capsys,
        *["align", "sample", *evidence(prior), "--model", fitted["run"]],
        *["--n", "30", "--tvd", "0.05", "--out", str(out)],
    )
    assert code == 0
    assert drawn["tvd"]["mean"] <= 0.06
    texts = [json.loads(line)["completion"] for line in out.read_text().splitlines()]
    assert len(texts) == 30
    assert all(text[-1] == 2 for text in texts)


def draw(capsys, prior, method, *flags, n=20):
    """Texts and facts of `align sample`."""
    out = Path("draws.jsonl")
    code, facts = call(
        capsys,
        *["align", "sample", *evidence(prior), "--method", method, *flags],
        *["--n", str(n), "--out", str(out)],
    )
    assert code == 0
    return [json.loads(line)["completion"] for line in out.read_text().splitlines()], facts


def test_a_condition_on_beginnings(prior, capsys):
    base = ["align", "sample", "--prior", prior["prior"], "--n", "40"]
    early = ["--prefix-condition", f"{prior['module']}:one_at_most"]
    for method in ("awrs", "smc"):
        code, _ = call(capsys, *base, *early, "--method", method, "--out", f"{method}.jsonl")
        assert code == 0
        lines = Path(f"{method}.jsonl").read_text().splitlines()
        texts = [json.loads(line)["completion"] for line in lines]
        assert all(text.count(0) <= 1 for text in texts)
    code, _ = call(
        capsys, *base, "--prefix-condition", f"{prior['module']}:never", "--method", "smc"
    )
    assert code == 2


@pytest.mark.parametrize("method", [*SAMPLERS, "model"])
def test_every_way_to_sample(prior, capsys, method):
    flags = ["--twist-steps", "5"] if method == "twisted_smc" else []
    texts, facts = draw(capsys, prior, method, *flags)
    assert len(texts) == facts["n"] == 20
    assert facts["method"] == method
    if method != "model":
        assert all(text[-1] == 2 for text in texts)
        assert facts["n_proposed"] >= 20


@pytest.mark.parametrize(
    ("method", "flag", "values"),
    [
        ("resample", "--pool", ("1", "32")),
        ("best_of_n", "--pool", ("2", "8")),
        ("suffix_mh", "--steps", ("1", "9")),
        ("smc", "--particles", ("4", "40")),
    ],
)
def test_more_of_a_setting_proposes_more(prior, capsys, method, flag, values):
    few, many = (draw(capsys, prior, method, flag, v)[1]["n_proposed"] for v in values)
    assert few < many


def test_a_cost_of_draws_ends_pools_early(prior, capsys):
    command = ["align", "sample", *evidence(prior, "--reward", "reward"), "--out", "draws.jsonl"]
    command += ["--pool", "12", "--n", "30", "--method"]
    _, free = call(capsys, *command, "best_of_n")
    found = {}
    for law in ("normal", "exponential", "empirical"):
        code, told = call(capsys, *command, "best_of_n", "--draw-cost", "0.02", "--reward-law", law)
        assert code == 0
        found[law] = told["n_proposed"]
        assert told["draws"]["mean"] == pytest.approx(told["n_proposed"] / 30)
    assert max(found.values()) < free["n_proposed"]
    assert len(set(found.values())) > 1
    for method, cost, message in (
        ("resample", "0.5", "only best_of_n"),
        ("best_of_n", "0", "must be positive"),
    ):
        code, told = call(capsys, *command, method, "--draw-cost", cost)
        assert code == 2
        assert message in told["error"]["message"]


def test_twists_differ_by_method_and_steps(prior, capsys):
    settings = (["--twist", "ctl"], ["--twist", "sixo"], ["--twist", "ctl", "--twist-steps", "3"])
    found = [draw(capsys, prior, "twisted_smc", *s)[1]["log_z"]["mean"] for s in settings]
    assert len(set(found)) == 3


def test_an_unknown_method_names_its_neighbour(prior, capsys):
    code, error = call(capsys, "align", "sample", *evidence(prior), "--method", "twisted")
    assert code == 2
    assert "twisted_smc" in json.dumps(error)


def test_check_before_training(prior, capsys):
    code, found = call(capsys, "align", "check", *evidence(prior), "--n", "500")
    assert code == 0
    assert set(found["log_z"]) >= {"mean", "se", "n"}
    assert found["terms"]["has_end"]["log_weight"] == 0.0
    assert found["interval"][0] < found["satisfied"]["mean"] < found["interval"][1]
    code, error = call(capsys, "align", "check", *evidence(prior, name="never"))
    assert code == 2
    assert "never" in json.dumps(error)


def test_fit_resumes_to_the_numbers_of_an_uninterrupted_run(prior, capsys, tmp_path):
    arguments = [*evidence(prior, "--reward", "reward"), "--steps", "30", "--batch", "64"]
    _, whole = call(capsys, "align", "fit", *arguments, "--n", "50")
    _, other = call(capsys, "align", "fit", *arguments, "--n", "50")
    run = tmp_path / other["run"]
    newest = max((run / "state").glob("*-*"))
    (newest / "tensors.safetensors").write_bytes(b"damaged")
    (run / "result.json").unlink()
    with pytest.warns(RuntimeWarning, match="is damaged"):
        _, resumed = call(capsys, "align", "fit", "--resume", other["run"])
    for name in NUMBERS:
        assert resumed[name] == whole[name]
    rows = [Record(tmp_path / r["run"]).metrics() for r in (whole, resumed)]
    plain = [[{k: v for k, v in row.items() if k != "time"} for row in r] for r in rows]
    assert plain[0] == plain[1]


def test_compare_reports_every_objective(prior, capsys, tmp_path):
    code, result = call(
        capsys,
        *["align", "compare", *evidence(prior), "--steps", "20", "--batch", "64", "--n", "50"],
        *["--objectives", "forward_kl", "--objectives", "rl", "--scale", "serial"],
    )
    assert code == 0, result
    assert set(result) == {"report", "run", "prior", "objectives", "sampler"}
    assert set(result["objectives"]) == {"forward_kl", "rl"}
    for numbers in result["objectives"].values():
        assert {"verdict", *NUMBERS} <= set(numbers)
    assert set(result["sampler"]["acceptance"]) >= {"mean", "se", "n"}
    html = (tmp_path / result["report"]).read_text()
    assert "NaN" not in html
    assert html.count("<svg") == 6
    runs = list((tmp_path / result["run"] / FITS).glob("*/*_align-fit_*"))
    assert len(runs) == 2
    assert not (tmp_path / result["run"] / DRAWS).exists()


@pytest.mark.parametrize("kind", ["--condition", "--reward"])
def test_a_comparison_on_workers_finds_what_one_here_does(prior, capsys, kind):
    """As the demo runs, whose evidence is a condition and no reward."""
    flags = [*evidence(prior, kind, "has_end" if kind == "--condition" else "reward")]
    flags += ["--steps", "6", "--batch", "32", "--n", "50", "--objectives", "forward_kl"]
    found = []
    for scale in ("serial", "processes:1"):
        code, result = call(capsys, "align", "compare", *flags, "--scale", scale)
        assert code == 0, result
        found.append(result["objectives"]["forward_kl"]["kl_target_model"])
    assert found[0] == found[1]


def test_equal_seconds_are_planned_once_and_reported(prior, capsys, tmp_path):
    code, result = call(
        capsys,
        *["align", "compare", *evidence(prior), "--seconds", "0.5", "--batch", "64", "--n", "50"],
        *["--objectives", "forward_kl", "--objectives", "rl", "--scale", "serial"],
        *["--gold", f"{prior['module']}:reward"],
    )
    assert code == 0, result
    html = (tmp_path / result["report"]).read_text()
    assert "trained for 0.5 CPU seconds" in html
    assert "gold: " in html
    for name, numbers in result["objectives"].items():
        root = tmp_path / result["run"] / FITS / name
        pace = Pace(**json.loads((root / "pace.json").read_text()))
        assert numbers["steps"] == pace.steps_within(0.5) > 1
        assert f"{name} {numbers['steps']}" in html
        assert 0 < numbers["gold"]["mean"] < 2
    assert [row["n"] for row in result["best_of_n"]] == [1, 2]
    again = tmp_path / result["run"] / FITS / "rl"
    # A finished comparison is read back, whatever a new pilot would have said.
    (again / "pace.json").unlink()
    _, read = call(capsys, "align", "compare", "--resume", result["run"])
    assert read["objectives"] == result["objectives"]


def test_steps_and_seconds_are_two_budgets(prior, capsys):
    flags = ["--steps", "5", "--seconds", "5"]
    code, result = call(capsys, "align", "compare", *evidence(prior), *flags)
    assert code == 2
    assert "an equal number of steps or positive seconds" in result["error"]["message"]


def test_a_fit_is_drawn_against_its_second_judge(prior, capsys, tmp_path):
    gold = ["--gold", f"{prior['module']}:has_end"]
    reward = evidence(prior, "--reward", "reward")
    _, fitted = call(capsys, "align", "fit", *reward, *gold, "--steps", "20", "--n", "80")
    rows = Record(tmp_path / fitted["run"]).metrics()
    assert [row["step"] for row in rows if row.get("watch_gold") is not None] == [0, 10, 20]
    assert "√KL(π‖p0)" in (tmp_path / fitted["report"]).read_text()
    assert [row["n"] for row in fitted["best_of_n"]] == [1, 2, 4]
    model = ["--model", fitted["run"]]
    _, measured = call(capsys, "align", "evaluate", *reward, *gold, *model, "--n", "80")
    assert measured["objectives"]["forward_kl"]["gold"] == fitted["gold"]


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "message"),
    [
        (["--condition", "{m}:never"], 2, "InfeasibleError", "'never' rules out 31 of 31"),
        (["--reward", "{m}:broken"], 1, "NumericsError", "broken"),
        (["--reward", "{m}:missing"], 2, "ConfigError", "missing"),
        (["--reward", "{m}:reward", "--beta", "0"], 2, "ConfigError", "Condition"),
        (
            ["--condition", "{m}:has_end", "--objective", "forwrd_kl"],
            2,
            "ConfigError",
            "forward_kl",
        ),
        (["--condition", "{m}:has_end", "--lr", "-1"], 2, "ConfigError", "lr"),
        (["--condition", "{m}:has_end", "--steps", "0"], 2, "ConfigError", "steps"),
    ],
)
def test_bad_input_is_a_typed_error(  # noqa: PLR0917 - one parameter per column
    prior, capsys, tmp_path, arguments, code, kind, message
):
    filled = [a.format(m=prior["module"]) for a in arguments]
    got, result = call(capsys, "align", "fit", "--prior", prior["prior"], *filled)
    assert got == code
    assert result["error"]["type"] == kind
    assert message in result["error"]["message"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--n", "0"], "n must be at least 1, got 0"),
        (["fit", "--n", "24"], "n must be at least 25, got 24"),
        (["check", "--n", "3"], "n must be at least 25, got 3"),
        (["compare", "--scale", "process:2"], "expected serial, processes:N"),
        (["demo", "--scale", "processes:0"], "expected serial, processes:N"),
        (["fit", "--engine", "vllm"], "builtin:stdlib is a model of ours; leave out engine"),
        (["fit", "--dtype", "bfloat16", "--chat"], "leave out dtype, chat"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_a_prior_is_trained(
    capsys, monkeypatch, arguments, message
):
    def untouched(*_, **__):
        raise AssertionError("a prior was asked for")

    monkeypatch.setattr("esscher.align.modelling.builtin_stdlib", untouched)
    code, found = call(capsys, "align", *arguments)
    assert code == 2
    assert message in found["error"]["message"]
