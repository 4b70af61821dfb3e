"""`esscher branch`, run as a user runs it."""

import json
import subprocess
import sys

import pytest
import torch

from esscher.branch.graph_policy import save_policy
from esscher.branch.instances.files import write_milp
from esscher.branch.instances.kind import instance
from esscher.branch.instances.set_cover import SetCover
from esscher.branch.network import BipartiteNetwork, NetworkConfig
from esscher.branch.rows import Journal
from esscher.branch.tree import SearchTree
from esscher.cli import main
from esscher.kit.runs.checkpoint import load_checkpoint, save_checkpoint
from esscher.kit.runs.record import Record

SMALL = SetCover(120, 160, density=0.06)
PROMISED = {"status", "objective", "nodes", "decisions", "lp_iterations", "seconds"}
FILES = {
    "infeasible.lp": "Minimize\n obj: x\nSubject to\n a: x + y >= 3\nBinaries\n x y\nEnd\n",
    "unbounded.lp": "Maximize\n obj: x\nSubject to\n a: x - y <= 1\nGenerals\n x y\nEnd\n",
    "linear.lp": "Maximize\n obj: x + y\nSubject to\n a: x + 2 y <= 3\n b: x <= 2\nEnd\n",
    "broken.mps": "NAME x\nROWS\n N obj\n Q c1\n",
    "empty.mps": "",
    "notes.txt": "hello",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        write_milp(tmp_path / f"{i}.mps", instance(SMALL, 1, i))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def call(capsys):
    def run(*arguments, as_json=True):
        """Exit code and standard output, as an object where it is JSON."""
        code = 0
        try:
            main(["branch", *map(str, arguments), *(["--json"] if as_json else [])])
        except SystemExit as end:
            code = end.code
        out = capsys.readouterr().out
        if not as_json:
            return code, out
        assert len(out.strip().splitlines()) == 1
        return code, json.loads(out)

    return run


@pytest.fixture
def fitted(folder):
    """The folder of a policy, untrained."""
    network = BipartiteNetwork(NetworkConfig(width=8), rng=torch.Generator().manual_seed(0))
    save_policy(network, folder / "fit" / "policy")
    return "fit"


BARE = ("--settings", "bare")


@pytest.mark.parametrize("policy", ["random", "strong", "relpscost", "scip:fullstrong", "fit"])
def test_the_contract_others_script_against(folder, fitted, call, policy):
    code, found = call("solve", "0.mps", "--policy", policy, *BARE)
    assert code == 0
    assert set(found) == PROMISED
    assert found["status"] == "optimal"
    assert found["objective"] == pytest.approx(call("solve", "0.mps")[1]["objective"])
    assert (found["decisions"] > 0) == (policy in ("random", "strong", "fit"))


def test_flags_of_solve_make_a_difference(folder, call):
    def sizes(*flags):
        found = call("solve", "0.mps", "--policy", "random", *BARE, *flags)[1]
        return found["status"], found["nodes"], found["decisions"]

    plain = sizes()
    assert sizes() == plain
    assert sizes("--seed", "7") != plain
    assert sizes("--selector", "dfs")[1] != plain[1]
    assert sizes("--max-depth", "0")[2] == 1
    assert sizes("--max-depth", "0", "--fallback", "mostinf") != sizes("--max-depth", "0")
    assert sizes("--time-limit", "0") == ("timelimit", 0, 0)
    assert sizes("--node-limit", "3")[1] <= 3
    whole = call("solve", "0.mps", "--policy", "random")[1]
    assert (whole["nodes"], whole["decisions"]) != plain[1:]


def test_the_best_solution_is_written(folder, call):
    code, found = call("solve", "0.mps", "--sol", "best.sol")
    assert code == 0
    assert set(found) == PROMISED | {"sol"}
    text = (folder / "best.sol").read_text()
    chosen = [line.split()[0] for line in text.splitlines() if line.startswith("x")]
    milp = instance(SMALL, 1, 0)
    x = [float(f"x{j}" in chosen) for j in range(160)]
    assert (milp.matrix @ x >= 1 - 1e-9).all()
    assert milp.objective @ x == pytest.approx(found["objective"])
    assert call("solve", "infeasible.lp", "--sol", "none.sol")[1]["sol"] is None
    assert not (folder / "none.sol").exists()


@pytest.mark.parametrize(
    ("file", "status", "objective"),
    [("infeasible.lp", "infeasible", None), ("linear.lp", "optimal", 2.5)],
)
def test_what_needs_no_branching_ends_cleanly(folder, call, file, status, objective):
    for policy in ("random", "relpscost"):
        code, found = call("solve", file, "--policy", policy, *BARE)
        assert code == 0
        assert (found["status"], found["objective"], found["decisions"]) == (status, objective, 0)


def test_an_unbounded_program_ends_cleanly(folder, call):
    code, found = call("solve", "unbounded.lp", "--policy", "random", *BARE)
    assert code == 0
    assert found["status"] in ("unbounded", "inforunbd")
    code, found = call("tree", "unbounded.lp", "--out", "t.json")
    assert code == 0
    assert found["status"] in ("unbounded", "inforunbd")


def test_a_tree_is_told_saved_and_drawn(folder, call):
    flags = ("--out", "t.json", "--svg", "t.svg", "--select", "deepest")
    code, found = call("tree", "0.mps", *flags)
    assert code == 0
    tree = SearchTree.load(folder / "t.json")
    assert len(tree) == sum(found["fates"].values())
    assert found["fates"]["branched"] == found["decisions"] == len(tree.visited)
    assert found["depth"] == tree.depth.max()
    assert (folder / "t.svg").read_text().startswith("<svg")
    assert "paths" in (folder / "t.svg").read_text()
    code, out = call("tree", "0.mps", as_json=False)
    assert code == 0
    assert out.startswith("root")
    assert call("tree", "0.mps", "--policy", "random")[1] != found
    code, found = call("tree", "linear.lp", "--out", "l.json")
    assert code == 0
    assert found["decisions"] == 0


def test_generated_instances_are_solved(folder, call):
    flags = ("--count", "2", "--seed", "5", "--first", "3")
    code, found = call("generate", "auction-10x50", *flags)
    assert code == 0
    assert found == {"folder": "auction-10x50-5", "class": "auction-10x50", "instances": 2}
    first = folder / "auction-10x50-5" / "auction-10x50-5-3.mps"
    assert call("solve", first)[1]["status"] == "optimal"
    code, found = call("generate", "auction-10x50", *flags, "--format", "lp", "--out", "lps")
    assert code == 0
    assert len(list((folder / "lps").glob("*.lp"))) == 2
    code, found = call("evaluate", "random", "--problems", "lps", "-q")
    assert code == 0
    assert found["instances"] == 2


def test_an_evaluation_tells_and_keeps_its_numbers(folder, fitted, call):
    flags = ("--problems", "0.mps", "--seeds", "2", "-q")
    code, found = call("evaluate", "random", "mine=fit", "pscost", *flags)
    assert code == 0
    assert list(found["policies"]) == ["random", "mine", "pscost"]
    assert found["base"] == "random"
    for row in found["policies"].values():
        for name in ("nodes_mean", "nodes_gmean", "wins", "seconds_gmean"):
            assert set(row[name]) == {"mean", "se", "n"}
    assert Journal(folder / found["rows"]).count() == 6
    run = Record(folder / found["run"])
    assert run.status() == "done"
    assert run.result()["policies"] == found["policies"]
    assert run.config()["policies"] == ["random", "mine=fit", "pscost"]
    code, out = call("evaluate", "random", *flags, as_json=False)
    assert "nodes_gmean" in out
    assert "±" in out


def test_an_evaluation_that_was_stopped_goes_on(folder, call):
    flags = ("--problems", "0.mps", "--seeds", "3", "-q")
    found = call("evaluate", "random", "pscost", *flags)[1]
    rows = folder / found["rows"]
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[:3]) + lines[3][:20])
    code, again = call("evaluate", "--resume", found["run"], "-q")
    assert code == 0
    assert rows.read_text().splitlines(keepends=True)[:3] == lines[:3]
    assert again["policies"]["random"]["nodes_mean"] == found["policies"]["random"]["nodes_mean"]
    code, told = call("evaluate", "--resume", found["run"], "--seeds", "2", "-q")
    assert code == 1
    assert "seeds" in told["error"]["message"]


def test_a_comparison_is_a_report(folder, fitted, call):
    (folder / "set").mkdir()
    for i in range(2):
        (folder / f"{i}.mps").rename(folder / "set" / f"{i}.mps")
    code, found = call(
        "compare", "random", "fit", "pscost", "--problems", "set", "--base", "pscost", "--drawn",
        "1", "-q",
    )  # fmt: skip
    assert code == 0
    assert found["base"] == "pscost"
    assert found["policies"]["fit"]["nodes_ratio"]["n"] == 2
    assert found["policies"]["pscost"]["nodes_ratio"] is None
    page = (folder / found["report"]).read_text(encoding="utf-8")
    for text in ("Trees of 1.mps", "fit makes smaller trees than pscost.", "95 % interval"):
        assert text in page
    assert page.count("<svg") == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["solve", "gone.mps"], "gone.mps"),
        (["solve", "broken.mps"], "broken.mps"),
        (["solve", "empty.mps"], "empty.mps"),
        (["solve", "notes.txt"], "must end in one of"),
        (["solve", "."], "must end in one of"),
        (["solve", "0.mps", "--policy", "randon"], "did you mean 'random'"),
        (["solve", "0.mps", "--policy", "scip:pscots"], "did you mean 'pscost'"),
        (["solve", "0.mps", "--policy", "other"], "gasse91"),
        (["solve", "0.mps", "--policy", "nothing"], "cannot be used as a policy"),
        (["solve", "0.mps", "--fallback", "no", "--policy", "random"], "no branching rule 'no'"),
        (["solve", "0.mps", "--settings", "bear"], "bear"),
        (["solve", "0.mps", "--time-limit", "nan"], "time_limit must be >= 0"),
        (["solve", "0.mps", "--time-limit", "-1"], "time_limit must be >= 0"),
        (["solve", "0.mps", "--max-depth", "-1"], "max_depth must be >= 0"),
        (["solve", "0.mps", "--node-limit", "0"], "node_limit must be >= 1"),
        (["solve", "0.mps", "--seed", "-1"], "seed must be >= 0"),
        (["solve", "0.mps", "--sol", "gone/x.sol"], "gone"),
        (["tree", "broken.mps"], "broken.mps"),
        (["tree", "0.mps", "--out", "gone/t.json"], "gone/t.json"),
        (["tree", "0.mps", "--svg", "gone/t.svg"], "gone/t.svg"),
        (["tree", "0.mps", "--select", "deepst"], "deepst"),
        (["generate", "setcover-100x1000"], "setcover-500x1000"),
        (["generate", "setcover-100x100", "--count", "0"], "count"),
        (["generate", "setcover-100x100", "--seed", "-1"], "seed must be >= 0"),
        (["evaluate", "--problem-seed", "-1"], "problem_seed must be >= 0"),
        (["generate", "setcover-100x100", "--out", "0.mps"], "0.mps"),
        (["evaluate", "randon", "--problems", "0.mps"], "did you mean 'random'"),
        (["evaluate", "random", "random", "--problems", "0.mps"], "two policies"),
        (["evaluate", "other", "--problems", "0.mps"], "gasse91"),
        (["evaluate", "--problems", "gone"], "no class of instances 'gone'"),
        (["evaluate", "--problems", "gone.mps"], "gone.mps"),
        (["evaluate", "--problems", "broken.mps"], "broken.mps"),
        (["evaluate", "--problems", "fit"], "holds no instance"),
        (["evaluate", "--problems", "0.mps", "--count", "0"], "count must be >= 1"),
        (["evaluate", "--problems", "0.mps", "--seeds", "0"], "seeds must be >= 1"),
        (["evaluate", "--problems", "0.mps", "--scale", "threads"], "expected serial"),
        (["evaluate", "--problems", "0.mps", "--base", "strong"], "the base 'strong'"),
        (["evaluate", "--problems", "0.mps", "--fallback", "no"], "no branching rule 'no'"),
        (["compare", "--problems", "0.mps", "--drawn", "1"], "among 1 instances"),
        (["evaluate", "--resume", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_an_error_of_the_user_before_there_is_a_run(
    folder, fitted, call, arguments, message
):
    saved = load_checkpoint(folder / "fit" / "policy")
    state = saved.state | {"network": saved.state["network"] | {"features": "gasse91"}}
    save_checkpoint(folder / "other", 0, saved.tensors, state)
    (folder / "nothing").mkdir()
    code, told = call(*arguments)
    assert code == 2
    assert message in told["error"]["message"]
    assert not (folder / "runs").exists()


def test_help_loads_neither_torch_nor_scip():
    code = (
        "import sys; sys.argv = ['esscher', 'branch', '--help']\n"
        "from esscher.cli import main\n"
        "main()\n"
        "assert not {'torch', 'pyscipopt', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout


def test_solving_with_scip_alone_loads_no_torch(folder):
    code = (
        "import sys; sys.argv = ['esscher', 'branch', 'solve', '0.mps', '--policy', 'random']\n"
        "from esscher.cli import main\n"
        "main()\n"
        "assert not {'torch', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_pyscipopt_the_pip_line_is_named(folder):
    code = (
        "import sys; sys.modules['pyscipopt'] = None\n"
        "sys.argv = ['esscher', 'branch', 'solve', '0.mps']\n"
        "from esscher.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'pip install "esscher[milp]"' in done.stderr
