"""What strong rules do on the way counts."""

import pytest

from esscher.branch import fair
from esscher.branch.fair import fair_nodes
from esscher.branch.named import policy_named
from esscher.branch.setup import Setup, solve_with
from esscher.errors import ConfigError
from tests.branch.problems import covering


def solved(name, seed=0):
    model = covering(120, 160, 0.06, seed).to_scip()
    return model, solve_with(model, policy_named(name), Setup(), seed)


@pytest.mark.parametrize("name", ["random", "pseudocost", "strong", "pscost"])
def test_who_only_branches_has_as_many_fair_nodes_as_nodes(name):
    model, found = solved(name)
    assert fair_nodes(model) == found.nodes


@pytest.mark.parametrize("name", ["vanillafullstrong", "fullstrong"])
def test_a_strong_rule_has_what_its_own_statistics_say(name, tmp_path):
    more = 0
    for seed in range(4):
        model, found = solved("scip:" + name, seed)
        model.writeStatistics(str(tmp_path / "statistics"))
        lines = (tmp_path / "statistics").read_text().splitlines()
        (line,) = [each for each in lines if each.split(":")[0].strip() == name]
        # Time, setup, three kinds of calls, cutoffs, domain reductions, cuts, constraints, children
        numbers = line.split(":")[1].split()
        cutoffs, reductions = int(numbers[5]), int(numbers[6])
        assert fair_nodes(model) == found.nodes + 2 * (cutoffs + reductions)
        more += cutoffs + reductions
    assert more > 0


def test_without_the_library_they_are_not_known(monkeypatch):
    def nowhere():
        raise ConfigError("not found")

    monkeypatch.setattr(fair, "_functions", nowhere)
    model, _ = solved("pscost")
    assert fair_nodes(model) is None
