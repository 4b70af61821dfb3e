"""Streams of instances, and the same optimum in two solvers for every class."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from esscher.branch.instances.auction import Auction
from esscher.branch.instances.facility import Facility
from esscher.branch.instances.independent_set import IndependentSet
from esscher.branch.instances.kind import InstanceClass, instance, integers
from esscher.branch.instances.set_cover import SetCover
from esscher.branch.instances.sizes import CLASSES
from esscher.errors import ConfigError
from tests.branch.brute import enumerate_optimum

SMALL = {
    "setcover": SetCover(30, 50, 0.1),
    "auction": Auction(10, 50),
    "facility": Facility(5, 5),
    "independent-set": IndependentSet(25),
}
TINY = {
    "setcover": SetCover(12, 12, 0.25),
    "auction": Auction(5, 13),
    "facility": Facility(4, 4),
    "independent-set": IndependentSet(13, affinity=3),
}


def same(one, other):
    fields = ("objective", "row_low", "row_high", "low", "high", "integer")
    return (
        all(np.array_equal(getattr(one, name), getattr(other, name)) for name in fields)
        and one.matrix.shape == other.matrix.shape
        and (one.matrix != other.matrix).nnz == 0
        and one.maximise == other.maximise
    )


def scip_optimum(milp):
    model = milp.to_scip()
    model.optimize()
    assert model.getStatus() == "optimal"
    return model.getObjVal()


def highs_optimum(milp, *, relaxed=False):
    solver = milp.to_highs()
    for option in ("mip_rel_gap", "mip_abs_gap"):
        solver.setOptionValue(option, 0.0)
    solver.setOptionValue("solve_relaxation", relaxed)
    solver.run()
    assert solver.modelStatusToString(solver.getModelStatus()) == "Optimal"
    return solver.getInfo().objective_function_value


def scip_relaxation(milp):
    model = milp.to_scip()
    for variable in model.getVars():
        model.chgVarType(variable, "C")
    model.optimize()
    return model.getObjVal()


def test_every_class_has_a_test():
    assert set(SMALL) == set(TINY) == set(CLASSES)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_highs_and_scip_agree_on_optimum_and_relaxation(name):
    sense = 1 if name in ("auction", "independent-set") else -1
    for i in range(20):
        milp = instance(SMALL[name], 7, i)
        optimum = scip_optimum(milp)
        assert highs_optimum(milp) == pytest.approx(optimum, rel=1e-6)
        bound = highs_optimum(milp, relaxed=True)
        assert scip_relaxation(milp) == pytest.approx(bound, rel=1e-6)
        assert sense * bound >= sense * optimum - 1e-6


@pytest.mark.parametrize("name", sorted(TINY))
def test_enumeration_agrees(name):
    for i in range(5):
        milp = instance(TINY[name], 3, i)
        assert scip_optimum(milp) == pytest.approx(enumerate_optimum(milp).value, rel=1e-6)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_an_instance_depends_on_class_seed_and_number_only(name):
    kind = SMALL[name]
    assert same(instance(kind, 0, 1), instance(kind, 0, 1))
    assert not same(instance(kind, 0, 1), instance(kind, 0, 2))
    assert not same(instance(kind, 0, 1), instance(kind, 1, 1))
    assert instance(kind, 4, 2).name == f"{kind.name}-4-2"


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_class_is_plain_data(name):
    kind = SMALL[name]
    assert isinstance(kind, InstanceClass)
    again = CLASSES[name](**json.loads(json.dumps(asdict(kind))))
    assert again == kind
    assert hash(again) == hash(kind)
    assert kind.name.startswith(name)


@pytest.mark.usefixtures("no_global_state")
@pytest.mark.parametrize("name", sorted(SMALL))
def test_no_global_state_is_touched(name):
    instance(SMALL[name], 0, 0).to_scip()


@pytest.mark.parametrize(
    ("seed", "i", "message"), [(-1, 0, "seed"), (0, -1, "i must be"), (0, 1.0, "i must be")]
)
def test_seeds_and_numbers_are_checked(seed, i, message):
    with pytest.raises(ConfigError, match=message):
        instance(SMALL["setcover"], seed, i)


@pytest.mark.parametrize("source", [np.random.default_rng, np.random.RandomState])
def test_both_ends_of_a_range_are_drawn(source):
    drawn = integers(source(0), 3, 5, 200)
    assert set(drawn.tolist()) == {3, 4, 5}
