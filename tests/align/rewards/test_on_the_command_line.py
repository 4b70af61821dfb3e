"""Rewards at scale through the commands, and what is left when they end."""

import json
import os
import sys
from pathlib import Path

import pytest

from esscher.align.compare import fit_all, jobs_of
from esscher.align.options import CompareOptions
from esscher.cli import main
from esscher.kit.lm.tabular import TabularLM
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output
from tests.kit.scale.watching import alive

REWARD = """
import os

def reward(xs):
    with open("pids", "a") as file:
        file.write(f"{os.getpid()}\\n")
    return [sum(a == 0 and b == 1 for a, b in zip(x, x[1:])) for x in xs]

calls = 0

def dying(xs):
    global calls
    calls += 1
    if calls == 20 and not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), 9)
    return reward(xs)
"""
PROGRAM = """
import json, os, sys
with open("pids", "a") as file:
    file.write(f"{os.getpid()}\\n")
for line in sys.stdin:
    x = json.loads(line)["text"]
    print(sum(a == 0 and b == 1 for a, b in zip(x, x[1:])))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A working folder with a prior, a reward in a module, and a program."""
    name = f"scaled_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(REWARD)
    (tmp_path / "score.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    TabularLM(alphabet=2, max_len=4).save(tmp_path / "prior")
    return name


def call(capsys, *arguments):
    code = 0
    try:
        main([*arguments, "--prior", "prior", "--json", "-q"])
    except SystemExit as end:
        code = end.code
    result = json.loads(capsys.readouterr().out.strip())
    assert code == 0, result
    return result


def pids():
    """The processes that computed rewards since the last call."""
    file = Path("pids")
    found = {int(pid) for pid in file.read_text().split()} if file.exists() else set()
    file.unlink(missing_ok=True)
    return found


def test_where_a_reward_runs_does_not_change_what_is_found(module, capsys):
    """Fit, evaluate and sample; no worker and no program outlives its command."""
    own, program = f"--reward={module}:reward", f"--reward-cmd={sys.executable} score.py"
    ways = {
        "here": [own],
        "workers": [own, "--scale", "processes:2", "--timeout", "60"],
        "program": [program, "--reward-cache", "kept.jsonl"],
    }
    drawn, told = {}, {}
    for way, flags in ways.items():
        drawn[way] = call(capsys, "align", "sample", *flags, "--n", "20")
        if way != "here":
            fitted = call(capsys, "align", "fit", *flags, "--steps", "9", "--batch", "64")
            told[way] = [fitted[key] for key in ("kl_target_model", "log_z", "entropy")]
        used = pids()
        assert (os.getpid() in used) == (way == "here")
        assert way == "here" or not any(map(alive, used))
    assert drawn["here"] == drawn["workers"] == drawn["program"]
    assert told["workers"] == told["program"]
    call(capsys, "align", "evaluate", *ways["program"], "--n", "50")
    assert not pids(), "every reward came from the file"


def test_the_fits_of_a_comparison_run_where_they_are_told_to(module, tmp_path):
    options = CompareOptions(
        prior="prior",
        reward=f"{module}:reward",
        scale="processes:1",
        objectives=("reverse_kl",),
        steps=3,
        batch=32,
        n=50,
    )
    run = Run.create(tmp_path / "runs", "align", "compare", "nested", config=options, seed=0)
    found = fit_all(jobs_of(options, run), options.scale, Output(quiet=True))
    assert found["reverse_kl"]["steps"] == 3
    (worker,) = pids()
    assert worker != os.getpid()
    assert not alive(worker)


def test_a_fit_whose_worker_dies_goes_on_from_its_checkpoint(module, tmp_path):
    settings = {"objectives": ("js", "reverse_kl"), "steps": 30, "batch": 32, "n": 50}
    found = []
    for reward in ("dying", "reward"):
        options = CompareOptions(
            prior="prior", reward=f"{module}:{reward}", scale="processes:2", **settings
        )
        run = Run.create(tmp_path / "runs", "align", "compare", reward, config=options, seed=0)
        found.append(fit_all(jobs_of(options, run), options.scale, Output(quiet=True)))
    assert Path("died").exists()
    for objective in settings["objectives"]:
        first, second = (f[objective] for f in found)
        assert first["kl_target_model"] == second["kl_target_model"]
    assert len(pids()) >= 5
