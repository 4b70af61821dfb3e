import dataclasses
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import torch

from esscher.errors import CheckpointError, ConfigError, DataError, NumericsError
from esscher.kit.runs.folder import Run
from esscher.kit.runs.presence import STALE_AFTER, terminate_as_interrupt
from esscher.kit.runs.seeds import Streams, rng_state, set_rng_state
from esscher.kit.runs.typed import from_mapping


@dataclass(frozen=True)
class Config:
    steps: int = 6
    lr: float = 0.5


class Number:
    def to_json(self):
        return {"mean": 0.5, "se": 0.1, "n": 10, "ess": None}


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path, "align", "fit", "ama zing!", config=Config(), seed=3)


def test_a_folder_holds_configuration_and_environment(run, tmp_path, no_global_state):
    head, name, digest = run.path.name.rsplit("_", 2)
    assert head.endswith("_align-fit")
    assert name == "ama-zing"
    assert from_mapping(Config, run.config()) == Config()
    env = run.env()
    assert env["seed"] == 3
    assert env["config_hash"] == digest
    assert env["packages"]["torch"] == torch.__version__
    assert env["argv"] == sys.argv
    assert env["host"] == platform.node()
    assert [path.name for path in tmp_path.iterdir()] == [run.path.name]


def test_two_runs_of_one_second_get_two_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda form: "20250101-000000")
    made = [Run.create(tmp_path, "align", "fit", "x", config=Config(), seed=0) for _ in range(3)]
    assert [run.path.name.rpartition("_")[2].partition("-")[2] for run in made] == ["", "2", "3"]


@pytest.mark.parametrize(
    "change",
    [{"config": Config(lr=math.nan)}, {"config": {"lr": 1}}, {"seed": -1}, {"name": "//"}],
)
def test_an_impossible_run_leaves_nothing_behind(tmp_path, change):
    arguments = {"name": "x", "config": Config(), "seed": 0} | change
    with pytest.raises(ConfigError):
        Run.create(tmp_path / "runs", "align", "fit", **arguments)
    assert not (tmp_path / "runs").exists()


def test_a_root_that_is_a_file_is_reported(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(ConfigError, match="cannot make a run folder"):
        Run.create(tmp_path / "runs", "align", "fit", "x", config=Config(), seed=0)


def test_metrics_expand_estimates(run):
    run.log(1, kl=Number(), loss=torch.tensor(2.0), khat=None)
    (row,) = run.metrics()
    assert row.pop("time") == pytest.approx(time.time(), abs=60)
    assert row == {
        "step": 1, "kl": 0.5, "kl_se": 0.1, "kl_n": 10, "kl_ess": None, "loss": 2.0, "khat": None
    }  # fmt: skip


def test_a_metric_that_is_not_a_number_is_named_and_not_written(run):
    with pytest.raises(NumericsError, match="metric 'loss' at step 4 is nan"):
        run.log(4, kl=1.0, loss=math.nan)
    with pytest.raises(DataError, match="'time' is taken"):
        run.log(4, time=1.0)
    assert run.metrics() == []


def test_status_follows_the_life_of_a_run(run):
    assert run.status() == "interrupted"
    with run:
        assert Run.open(run.path).status() == "running"
    assert run.status() == "interrupted"
    assert run.result() is None
    run.finish({"kl": Number()})
    assert run.status() == "done"
    assert run.result() == {"kl": {"mean": 0.5, "se": 0.1, "n": 10, "ess": None}}


@pytest.mark.parametrize("sign", ["dead process", "old file", "nonsense"])
def test_a_run_that_died_is_interrupted(run, sign):
    path = run.path / "heartbeat"
    owner = {"host": platform.node(), "pid": os.getpid()}
    if sign == "dead process":
        with subprocess.Popen([sys.executable, "-c", ""]) as child:
            child.wait()
        owner["pid"] = child.pid
    path.write_text("{" if sign == "nonsense" else json.dumps(owner))
    if sign == "old file":
        past = time.time() - STALE_AFTER - 1
        os.utime(path, (past, past))
    assert run.status() == "interrupted"


def test_an_exception_is_logged_and_names_the_folder(run):
    with pytest.raises(ZeroDivisionError) as caught, run:
        1 / 0  # noqa: B018
    assert caught.value.run_path == run.path
    log = (run.path / "log.txt").read_text()
    assert "started" in log
    assert "failed\nTraceback" in log
    assert "ZeroDivisionError" in log


def test_sigterm_ends_a_run_like_ctrl_c(run, no_global_state):
    with pytest.raises(KeyboardInterrupt) as caught, run:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.run_path == run.path
    assert "interrupted" in (run.path / "log.txt").read_text()
    assert not (run.path / "heartbeat").exists()


def test_outside_the_main_thread_signals_stay_as_they_are(no_global_state):
    import threading

    seen = []

    def work():
        with terminate_as_interrupt():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def train(run, stop, start=0, state=None):
    rng = Streams(run.env()["seed"]).torch("noise")
    weight = torch.zeros(3)
    if state is not None:
        weight = state["weight"]
        set_rng_state(rng, state["rng"])
    for step in range(start + 1, stop + 1):
        weight = weight + torch.randn(3, generator=rng)
        run.log(step, weight=weight)
        run.sample(step, text=f"ü{step}\n")
        if step % 2 == 0:
            run.save(step, {"weight": weight, "rng": rng_state(rng)})
    return weight


def without_time(rows):
    return [{key: value for key, value in row.items() if key != "time"} for row in rows]


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, no_global_state):
    whole = Run.create(tmp_path, "align", "fit", "whole", config=Config(), seed=1)
    expected = train(whole, 6)
    broken = Run.create(tmp_path, "align", "fit", "broken", config=Config(), seed=1)
    train(broken, 5)
    broken.finish({"early": 1})
    with (broken.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "cut o')
    again = Run.open(broken.path, Config())
    step, state = again.resume()
    assert step == 4
    assert again.result() is None
    assert torch.equal(train(again, 6, step, state), expected)
    assert without_time(again.metrics()) == without_time(whole.metrics())
    assert (again.path / "samples.jsonl").read_bytes() == (
        whole.path / "samples.jsonl"
    ).read_bytes()


def test_another_configuration_cannot_resume(run):
    with pytest.raises(CheckpointError, match="another configuration; different: lr"):
        Run.open(run.path, dataclasses.replace(Config(), lr=1.0))


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(ConfigError, match="is not a run folder"):
        Run.open(tmp_path)
