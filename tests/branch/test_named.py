"""Policies by name and by folder."""

import json

import pytest
import torch

from esscher.branch.graph_policy import GraphPolicy, save_policy
from esscher.branch.instances.set_cover import SetCover
from esscher.branch.named import POLICIES, RULES, labelled, policy_named, scip_rules
from esscher.branch.network import BipartiteNetwork, NetworkConfig
from esscher.branch.policies import MostInfeasible, Pseudocost, RandomChoice, ScipRule
from esscher.branch.problems import Drawn
from esscher.branch.setup import Setup, solve_with
from esscher.branch.strong import StrongBranching
from esscher.errors import ConfigError, DataError
from esscher.kit.runs.checkpoint import load_checkpoint, save_checkpoint

SMALL = Drawn(SetCover(150, 200, density=0.06), 1, 1)


def network(**changes):
    return BipartiteNetwork(NetworkConfig(width=8, **changes), rng=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [*POLICIES, *RULES, "scip:fullstrong", "scip:random"])
def test_every_name_solves(name):
    found = solve_with(SMALL.model(), policy_named(name), Setup(), 0)
    assert found.status == "optimal"
    assert (found.decisions > 0) == (name in POLICIES)


def test_names_are_what_they_say():
    kinds = [type(policy_named(name)) for name in POLICIES]
    assert kinds == [RandomChoice, MostInfeasible, Pseudocost, StrongBranching]
    assert policy_named("pscost") == policy_named("scip:pscost") == ScipRule("pscost")
    assert set(RULES) <= set(scip_rules())


def test_the_seed_is_that_of_the_choices():
    class Focus:
        variables = tuple(range(1000))

    def choices(seed):
        policy = policy_named("random", seed)
        return [policy.choose(Focus) for _ in range(5)]

    assert choices(1) == choices(1) != choices(2)


@pytest.mark.parametrize("features", ["gasse19", "retro43"])
def test_a_fitted_policy_comes_from_its_folder_or_its_run(tmp_path, features):
    run = tmp_path / "run"
    save_policy(network(features=features), run / "policy")
    found = []
    for folder in (run, run / "policy"):
        policy = policy_named(str(folder))
        assert isinstance(policy, GraphPolicy)
        found.append(solve_with(SMALL.model(), policy, Setup(), 0))
    assert found[0].status == "optimal"
    assert found[0].decisions > 0
    assert found[0].nodes == found[1].nodes


def test_labels():
    assert labelled(["random", "a=strong", "b=scip:pscost"]) == {
        "random": "random", "a": "strong", "b": "scip:pscost",
    }  # fmt: skip


def test_folders_are_called_by_their_own_names(tmp_path):
    for run in ("one", "two"):
        (tmp_path / run / "policy").mkdir(parents=True)
    assert list(labelled([f"{tmp_path}/one", f"{tmp_path}/two/policy"])) == ["one", "two"]
    with pytest.raises(ConfigError, match="two policies would be called 'one'"):
        labelled([f"{tmp_path}/one", f"{tmp_path}/one/policy"])


@pytest.mark.parametrize(
    ("names", "message"),
    [(["random", "random"], "two policies"), (["=random"], "NAME or LABEL=NAME"), (["a="], "NAME")],
)
def test_labels_have_to_differ_and_to_be_there(names, message):
    with pytest.raises(ConfigError, match=message):
        labelled(names)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("randon", "did you mean 'random'"),
        ("relpcost", "did you mean 'relpscost'"),
        ("runs/gone", "no policy 'runs/gone'"),
        ("scip:fulstrong", "did you mean 'fullstrong'"),
        ("scip:", "no branching rule ''"),
    ],
)
def test_what_there_is_not_is_an_error_that_names_the_nearest(name, message):
    with pytest.raises(ConfigError, match=message):
        policy_named(name)


def test_folders_that_hold_no_policy_are_data_errors(tmp_path):
    with pytest.raises(DataError, match="cannot be used as a policy"):
        policy_named(str(tmp_path))
    saved = save_policy(network(), tmp_path / "other")
    state = saved / "state.json"
    body = json.loads(state.read_text())
    body["state"]["network"]["features"] = "gasse91"
    state.write_text(json.dumps(body))
    with pytest.raises(DataError, match="damaged"):
        policy_named(str(tmp_path / "other"))


def test_a_policy_of_another_feature_set_is_refused(tmp_path):

    saved = load_checkpoint(save_policy(network(), tmp_path / "policy").parent)
    tree = saved.state | {"network": saved.state["network"] | {"features": "gasse91"}}
    save_checkpoint(tmp_path / "later", 0, saved.tensors, tree)
    with pytest.raises(DataError, match="gasse91"):
        policy_named(str(tmp_path / "later"))
    tree = saved.state | {"network": saved.state["network"] | {"features": "retro43"}}
    save_checkpoint(tmp_path / "wrong", 0, saved.tensors, tree)
    with pytest.raises(DataError, match="does not hold"):
        policy_named(str(tmp_path / "wrong"))
