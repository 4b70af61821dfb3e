"""`esscher offline`, run as a user runs it."""

import json
import subprocess
import sys

import pytest
import torch

from esscher.cli import main
from esscher.kit.rl.policy import load_policy
from esscher.kit.runs.record import Record
from esscher.offline import study
from esscher.offline.learners import TD3Offline

h5py = pytest.importorskip("h5py")
QUICK = ["--steps", "40", "--width", "16", "--batch", "32", "--density-steps", "40"]


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        """Exit code and the JSON object on standard output."""
        code = 0
        quiet = [] if arguments[0] in ("mix", "evaluate") else ["-q"]
        try:
            main(["offline", *arguments, "--json", *quiet])
        except SystemExit as end:
            code = end.code
        lines = capsys.readouterr().out.strip().splitlines()
        assert len(lines) == 1
        return code, json.loads(lines[0])

    return run


@pytest.fixture
def data(call):
    code, found = call("collect", "--env", "point-mass", "--episodes", "20", "--dataset", "pm-v0")
    assert code == 0
    return found["dataset"]


def test_logs_are_collected_mixed_learnt_from_and_evaluated(call, data, tmp_path):
    code, mixed = call("mix", data, data, "--ratio", "0.5:100", "--dataset", "half-v0")
    assert code == 0
    assert {row["policy"] for row in mixed["policies"]} == {"left", "right"}
    code, found = call("fit", mixed["dataset"], *QUICK, "--episodes", "4", "--evaluations", "4")
    assert code == 0
    run = Record(tmp_path / found["run"])
    assert [row["step"] for row in run.metrics()] == [10, 20, 30, 40]
    assert run.metrics()[-1]["return_n"] == 4
    page = (tmp_path / found["report"]).read_text(encoding="utf-8")
    for word in ("Who did what", "Learning", "left"):
        assert word in page
    code, told = call("evaluate", found["run"], "--episodes", "5")
    assert code == 0
    assert told["return"]["n"] == 5
    code, seen = call("inspect", data, "--density-steps", "40", "--policy", found["run"])
    assert code == 0
    assert 0 <= seen["ood_rate"] <= 1
    assert {row["policy"] for row in seen["policies"]} == {"left", "right"}
    assert "density of the data" not in seen
    assert (tmp_path / seen["report"]).exists()


def test_learners_are_compared(call, data, tmp_path):
    code, found = call("compare", data, *QUICK, "--methods", "bc", "--methods", "iql", "--seeds",
                       "2", "--episodes", "2", "--evaluations", "2")  # fmt: skip
    assert code == 0
    assert {name: row["return"]["n"] for name, row in found["methods"].items()} == {
        "bc": 2,
        "iql": 2,
    }
    assert "Returns while training" in (tmp_path / found["report"]).read_text(encoding="utf-8")


def test_a_fit_that_was_stopped_is_continued(call, data):
    _, found = call("fit", data, *QUICK, "--env", "none")
    code, again = call("fit", "--resume", found["run"])
    assert code == 0
    assert again["last"] == found["last"]


def test_ctrl_c_and_resume_end_in_the_same_policy_bit_for_bit(call, data, tmp_path, monkeypatch):
    _, whole = call("fit", data, *QUICK, "--episodes", "2", "--evaluations", "4")
    own = TD3Offline.step

    def stopped(learner):
        if learner.done == 27:
            raise KeyboardInterrupt
        return own(learner)

    monkeypatch.setattr(TD3Offline, "step", stopped)
    code, _ = call("fit", data, *QUICK, "--episodes", "2", "--evaluations", "4", "--name", "cut")
    assert code == 130
    (run,) = (path for path in (tmp_path / "runs").iterdir() if "_cut_" in path.name)
    assert Record(run).status() == "interrupted"
    monkeypatch.setattr(TD3Offline, "step", own)
    code, again = call("fit", "--resume", str(run))
    assert code == 0
    assert again["last"] == whole["last"]
    policies = [load_policy(tmp_path / found["run"] / "policy") for found in (whole, again)]
    for name, tensor in policies[0].state_dict().items():
        assert torch.equal(tensor, policies[1].state_dict()[name]), name


def test_a_report_shows_actions_weights_and_promises(call, data, tmp_path):
    code, found = call("compare", data, *QUICK, "--methods", "bc", "--methods", "td3_rkl",
                       "--seeds", "2", "--episodes", "2", "--evaluations", "2")  # fmt: skip
    assert code == 0
    page = (tmp_path / found["report"]).read_text(encoding="utf-8")
    for word in ("over-estimation", "fitted density", "its modes", "weight w(s)", "quantile 0.05"):
        assert word in page
    code, found = call("fit", data, *QUICK, "--episodes", "3", "--evaluations", "2")
    assert found["q_start"]["n"] == found["value_start"]["n"] == 3


def test_the_demo_keeps_its_contract(call, tmp_path, monkeypatch):
    for size in (study.BANDIT_SIZE, study.POINT_MASS_SIZE):
        for name, value in {"steps": 20, "density__steps": 20, "td3__batch": 32}.items():
            monkeypatch.setitem(size, name, value)
    code, found = call("demo", "--seeds", "2")
    assert code == 0
    for method in ("bc", "td3_bc", "td3_rkl"):
        for score in ("narrow_return", "narrow_ood", "wide_return"):
            assert set(found["bandit"][method][score]) == {"mean", "se", "n"}
        for score in ("collision_rate", "return_ratio"):
            assert found["point_mass"][method][score]["n"] == 2
    page = (tmp_path / found["report"]).read_text(encoding="utf-8")
    for word in ("two thin modes", "Cloning acts between the modes", "<svg"):
        assert word in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit"], "name a data set"),
        (["fit", "gone"], "cannot read gone"),
        (["fit", "DATA", "--method", "td3_rlk"], "did you mean 'td3_rkl'"),
        (["fit", "DATA", "--method", "td3_bc", "--weight", "entropy"], "needs the density"),
        (["fit", "DATA", "--env", "Pendulun-v1"], "no environment"),
        (["collect", "--levels", "expret"], "levels are random, medium, expert"),
        (["collect", "--env", "point-mass", "--dataset", "pm-v0"], "exists"),
        (["mix"], "name the data sets"),
        (["mix", "DATA", "--ratio", "1:1"], "as many parts"),
        (["mix", "DATA", "--ratio", "half"], "a ratio looks like"),
        (["mix", "DATA", "--policies", "middle"], "no policy of"),
        (["demo", "--seeds", "0"], "seeds must be >= 1"),
    ],
)
def test_bad_input_is_a_typed_error_before_there_is_a_run(call, data, tmp_path, arguments, message):
    pytest.importorskip("gymnasium")
    code, told = call(*[data if a == "DATA" else a for a in arguments])
    assert code == 2
    assert message in told["error"]["message"]
    assert not (tmp_path / "runs").exists()


def test_help_of_the_group_loads_neither_torch_nor_gymnasium():
    code = (
        "import sys; sys.argv = ['esscher', 'offline', '--help']\n"
        "from esscher.cli import main\n"
        "main()\n"
        "assert not {'torch', 'gymnasium', 'h5py'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout


def test_without_h5py_the_pip_line_is_named(tmp_path):
    code = (
        "import sys; sys.modules['h5py'] = None; sys.modules['gymnasium'] = None\n"
        "from pathlib import Path\n"
        "from esscher.offline import MixedDataset, fit\n"
        "from esscher.offline.problems.point_mass import point_mass_data\n"
        "point_mass_data(2).save(Path('.'), 'x-v0')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert 'pip install "esscher[rl]"' in done.stderr
