import numpy as np
import pytest

from esscher.branch.observation.base import TREE_FEATURES
from esscher.branch.observation.search import TREE_LIMIT, TreeReader
from tests.branch.observation.models import (
    auction,
    covering,
    facility,
    independent_set,
    mixed,
    model_of,
    walk,
)

T = {name: k for k, name in enumerate(TREE_FEATURES)}


def watch(model, **settings):
    """Features at every node, and what SCIP says there."""
    reader, seen = TreeReader(), []

    def look(focus):
        model = focus.model
        if focus.step == 0:
            reader.begin(model)
        node, sibling, best = model.getCurrentNode(), model.getBestSibling(), model.getBestNode()
        said = {
            "D": model.getLowerbound(),
            "P": model.getUpperbound()
            if hasattr(model, "getUpperbound")
            else model.getPrimalbound(),
            "N": model.getNNodes(),
            "b": node.getLowerbound(),
            "B": None if sibling is None else sibling.getLowerbound(),
            "best": None if best is None else best.getNumber(),
            "sibling": None if sibling is None else sibling.getNumber(),
            "depth": focus.depth,
            "changes": node.getNDomchg(),
            "leaves": (
                model.getNLeaves(),
                model.getNFeasibleLeaves(),
                model.getNInfeasibleLeaves(),
            ),
            "iterations": model.getNLPIterations(),
            "gap": model.getGap(),
        }
        seen.append((dict(zip(TREE_FEATURES, reader.read(model).tolist(), strict=True)), said))

    walk(model, look, **settings)
    return seen


def test_the_root():
    (features, said), *_ = watch(model_of(covering(150, 200, 0.06, 1)), limit=1)
    zero = [
        "dual_bound_change", "primal_bound_change", "leaves_share", "feasible_leaves_share",
        "infeasible_leaves_share", "siblings_share", "is_best", "parent_is_best", "depth_share",
        "by_branching", "by_constraints", "by_propagation", "branchings_share", "sibling_is_best",
        "first_dual_by_sibling", "dual_by_sibling", "sibling_by_bound",
    ]  # fmt: skip
    assert {name: features[name] for name in zero} == dict.fromkeys(zero, 0.0)
    assert features["no_sibling"] == 1
    assert (features["first_dual_by_bound"], features["dual_by_bound"]) == (1, 1)
    assert features["gap_by_primal"] == pytest.approx(1), "|1e20 - D| / 1e20"
    assert (features["gap_by_dual"], features["gap"]) == (TREE_LIMIT, TREE_LIMIT)
    assert features["nodes_by_iterations"] == pytest.approx(1 / said["iterations"])


def plain(said, first):
    """The published formulae, where all bounds are positive and finite."""
    D, P, N, b, B = (said[name] for name in ("D", "P", "N", "b", "B"))
    changes = said["changes"]
    wanted = {
        "dual_bound_change": abs(first["D"] - D) / first["D"],
        "primal_bound_change": abs(first["P"] - P) / first["P"],
        "gap_by_primal": abs(P - D) / first["P"],
        "gap_by_dual": abs(P - D) / first["D"],
        "gap": said["gap"],
        "leaves_share": said["leaves"][0] / N,
        "feasible_leaves_share": said["leaves"][1] / N,
        "infeasible_leaves_share": said["leaves"][2] / N,
        "nodes_by_iterations": N / said["iterations"],
        "siblings_share": (B is not None) / N,
        "depth_share": said["depth"] / N,
        "first_dual_by_bound": first["D"] / b,
        "dual_by_bound": D / b,
        "by_branching": changes[0] / max(sum(changes), 1),
        "by_constraints": changes[1] / max(sum(changes), 1),
        "by_propagation": changes[2] / max(sum(changes), 1),
        "branchings_share": (said["depth"] > 0) / N,
        "no_sibling": B is None,
        "sibling_is_best": said["best"] is not None and said["best"] == said["sibling"],
        "first_dual_by_sibling": 0 if B is None else first["D"] / B,
        "dual_by_sibling": 0 if B is None else D / B,
        "sibling_by_bound": 0 if B is None else B / b,
    }
    return {name: min(float(value), TREE_LIMIT) for name, value in wanted.items()}


@pytest.mark.parametrize("heuristics", [False, True])
def test_the_published_formulae_hold_where_bounds_are_positive(heuristics):
    seen = watch(model_of(covering(150, 200, 0.06, 1), heuristics=heuristics))
    for features, said in seen:
        for name, value in plain(said, seen[0][1]).items():
            assert features[name] == pytest.approx(value, rel=1e-6), name
    assert {features["no_sibling"] for features, _ in seen} == {0, 1}
    assert any(features["dual_bound_change"] > 0 for features, _ in seen)
    if heuristics:
        assert all(features["gap"] < TREE_LIMIT for features, _ in seen)


@pytest.mark.parametrize(
    "program",
    [
        auction(20, 40, 0),
        independent_set(60, 0),
        mixed(0),
        facility(12, 8, 0),
        covering(60, 90, 0.08, 0, zero=True),
    ],
)
def test_they_are_finite_and_bounded_whatever_the_signs_of_bounds(program):
    seen = watch(model_of(program))
    assert len(seen) > 10
    for features, _ in seen:
        values = np.array(list(features.values()))
        assert np.isfinite(values).all()
        assert np.abs(values).max() <= TREE_LIMIT
        changes = [features[name] for name in TREE_FEATURES[:5]]
        assert min(changes) >= 0


def test_without_an_objective_ratios_of_bounds_are_zero():
    for features, _ in watch(model_of(covering(60, 90, 0.08, 0, zero=True)), limit=5):
        for name in ("dual_bound_change", "first_dual_by_bound", "dual_by_bound"):
            assert features[name] == 0
        assert features["gap_by_dual"] == TREE_LIMIT


def test_the_first_bounds_are_forgotten_where_a_solve_begins():
    reader = TreeReader()
    for cost in (0, 1):
        program = facility(12, 8, cost)

        def look(focus):
            if focus.step == 0:
                reader.begin(focus.model)
                features = reader.read(focus.model)
                assert features[T["dual_bound_change"]] == 0
                assert features[T["first_dual_by_bound"]] == pytest.approx(1)

        assert walk(model_of(program), look, limit=2) == 2
