"""Evaluation: the same rows wherever it runs and however often it is killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from esscher.branch.callback import Limits
from esscher.branch.evaluate import evaluate
from esscher.branch.instances.set_cover import SetCover
from esscher.branch.policies import RandomChoice, ScipRule
from esscher.branch.problems import Drawn
from esscher.branch.rows import Journal
from esscher.branch.setup import Setup
from esscher.errors import ConfigError, DataError, NumericsError
from tests.branch.problems import covering

SMALL = [Drawn(SetCover(150, 200, density=0.06), 1, i) for i in range(3)]
POLICIES = {"random": "random", "infeasible": "mostinfeasible", "rule": ScipRule("pscost")}


def plain(rows):
    """Rows without what depends on the clock."""
    return [replace(row, seconds=0.0, policy_seconds=0.0) for row in rows]


def test_every_policy_solves_every_instance_with_every_seed():
    told = []
    rows = evaluate(POLICIES, SMALL, seeds=(0, 1), tell=told.append)
    assert told == list(range(1, 19))
    assert [row.key for row in rows] == [
        (p, i.name, s) for i in SMALL for s in (0, 1) for p in POLICIES
    ]
    assert all(row.status == "optimal" for row in rows)
    by_instance = {row.instance: {round(r.objective, 6) for r in rows if r.instance == row.instance}
                   for row in rows}  # fmt: skip
    assert all(len(found) == 1 for found in by_instance.values())
    assert all(row.decisions > 0 for row in rows if row.policy != "rule")
    assert all(row.fair_nodes == row.nodes for row in rows)
    assert all(0 <= row.policy_seconds <= row.seconds + 0.1 for row in rows)


def test_rows_depend_neither_on_the_workers_nor_on_the_company(tmp_path):
    alone = evaluate({"random": "random"}, SMALL[1:], seeds=(1,))
    here = evaluate(POLICIES, SMALL, seeds=(0, 1))
    assert plain(alone) == plain([r for r in here if r.policy == "random" and r.seed == 1][1:])
    path, told = tmp_path / "rows.jsonl", []
    there = evaluate(
        POLICIES, SMALL, seeds=(0, 1), scale="processes:2", journal=path, tell=told.append
    )
    assert plain(there) == plain(here)
    assert set(Journal(path).read().values()) == set(there)
    assert told[-1] == Journal(path).count() == 18


def test_seeds_make_a_difference():
    rows = evaluate({"infeasible": "mostinfeasible", "random": "random"}, SMALL, seeds=range(4))
    for policy in ("infeasible", "random"):
        sizes = {r.nodes for r in rows if r.policy == policy and r.instance == SMALL[0].name}
        assert len(sizes) > 1


def test_what_is_in_the_journal_is_not_solved_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    first = evaluate(POLICIES, SMALL[:2], journal=path)
    made = []

    def factory(seed):
        made.append(seed)
        return RandomChoice(seed)

    told = []
    policies = {**POLICIES, "random": factory}
    rows = evaluate(policies, SMALL, journal=path, tell=told.append)
    assert rows[: len(first)] == first
    assert len(made) == 1
    assert told == [7, 8, 9]
    assert Journal(path).count() == 9
    assert evaluate(policies, SMALL, journal=path) == rows


SCRIPT = """
from pathlib import Path
from esscher.branch.evaluate import evaluate
from tests.branch.test_evaluate import POLICIES, SMALL

evaluate(POLICIES, SMALL, seeds=range(400), journal=Path("rows.jsonl"))
"""


def test_a_kill_costs_at_most_one_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    work = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=tmp_path, env=env)
    while work.poll() is None and (not path.exists() or Journal(path).count() < 4):
        time.sleep(0.01)
    work.send_signal(signal.SIGKILL)
    work.wait()
    kept = Journal(path).read()
    assert len(kept) >= 4
    seeds = sorted({seed for _, _, seed in kept})
    # Seeds of the first instance come in order, so that all before the last are there.
    assert sum(key[2] < seeds[-1] for key in kept) == len(POLICIES) * seeds[-1]
    rows = evaluate(POLICIES, SMALL[:1], seeds=seeds, journal=path)
    assert plain(rows) == plain(evaluate(POLICIES, SMALL[:1], seeds=seeds))


class Refusing:
    """A policy that will not."""

    def begin(self, model):
        pass

    def choose(self, focus):
        raise RuntimeError("I will not")


def refusing(seed):
    return Refusing()


@pytest.mark.parametrize("scale", ["serial", "processes:1"])
def test_a_failing_policy_surfaces_as_itself(tmp_path, scale):
    path = tmp_path / "rows.jsonl"
    policies = {"fine": "mostinfeasible", "mule": refusing}
    with pytest.raises(RuntimeError, match="I will not") as caught:
        evaluate(policies, SMALL, journal=path, scale=scale)
    assert any(SMALL[0].name in note for note in caught.value.__notes__)
    assert {key[0] for key in Journal(path).read()} == {"fine"}


@pytest.mark.parametrize("policy", ["random", "strong", "relpscost"])
def test_a_time_limit_censors(policy):
    hard = covering(600, 900, 0.03, 0)
    (row,) = evaluate({"p": policy}, [hard], setup=Setup(time_limit=0.2))
    assert row.status == "timelimit"
    assert not row.ended
    assert 0.2 <= row.seconds < 5


def test_limits_reach_the_solver():
    hard = covering(150, 200, 0.05, 0)
    (row,) = evaluate({"p": "random"}, [hard], setup=Setup(node_limit=5))
    assert row.status in ("nodelimit", "totalnodelimit")
    assert row.nodes <= 5
    limited = Setup(limits=Limits(max_depth=0), fallback="pscost")
    (row,) = evaluate({"p": "random"}, [hard], setup=limited)
    assert row.decisions == 1
    assert row.status == "optimal"
    sizes = {
        selector: evaluate({"p": "mostinfeasible"}, [hard], setup=Setup(selector=selector))[0].nodes
        for selector in ("default", "dfs")
    }
    assert sizes["default"] != sizes["dfs"]


class Lost:
    """A policy whose numbers are lost before the time is over."""

    def begin(self, model):
        pass

    def choose(self, focus):
        raise NumericsError("lost")


def test_numbers_that_are_lost_are_no_time_limit():
    with pytest.raises(NumericsError, match="lost"):
        evaluate({"p": lambda seed: Lost()}, SMALL[:1], setup=Setup(time_limit=100.0))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"policies": {}}, ConfigError, "expected policies"),
        ({"seeds": ()}, ConfigError, "expected policies"),
        ({"seeds": (1, 1)}, ConfigError, "differ"),
        ({"problems": []}, ConfigError, "no instance"),
        ({"scale": "threads"}, ConfigError, "expected serial"),
        ({"policies": {"p": "randon"}}, ConfigError, "did you mean 'random'"),
        ({"policies": {"p": ScipRule("no")}}, ConfigError, "no branching rule 'no'"),
        ({"setup": Setup("sicp")}, ConfigError, "did you mean 'scip'"),
    ],
)
def test_bad_settings_are_typed_errors(changes, error, message):
    given = {"policies": {"p": "random"}, "problems": SMALL[:1]} | changes
    with pytest.raises(error, match=message):
        evaluate(**given)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "x.mps").write_text("NAME x\nROWS\n N obj\n Q c1\n")
    with pytest.raises(DataError, match=r"x\.mps"):
        evaluate({"p": "random"}, [tmp_path / "x.mps"])
