"""Words and trees that say what the policy does."""

import math

import numpy as np
import pytest

from esscher.errors import ConfigError
from esscher.pandora import Box, PandoraInstance, TwoPhasePolicy, simulate, solve
from esscher.pandora.examples import hiring
from esscher.pandora.explain import decision_tree, explain
from esscher.pandora.families import FAMILIES, tight
from tests.pandora.test_simulate import drawn


def leaves(node):
    return [node] if not node.parts else [leaf for part in node.parts for leaf in leaves(part)]


def inner(node):
    return [node, *(below for part in node.parts for below in inner(part))]


class Followed:
    """A player who has nothing but the tree."""

    def __init__(self, instance, root):
        self.instance, self.root = instance, root

    def next_action(self, opened):
        from esscher.pandora import Claim, Open, Take

        node, best = self.root, self.instance.outside
        while node.kind == "open" and node.boxes[0] in opened:
            best = max(best, opened[node.boxes[0]])
            (node,) = [part for part in node.parts if part.low <= best < part.high]
        if node.kind == "open":
            return Open(node.boxes[0])
        if node.kind == "claim":
            return Claim(node.boxes[0])
        assert node.kind == "take"
        if best <= self.instance.outside:
            return Take(None)
        return Take(next(name for name, value in opened.items() if value == best))


@pytest.mark.parametrize("seed", [seed for seed in range(24) if seed % 3 != 1])
def test_whoever_follows_the_whole_tree_follows_the_policy(seed):
    """Where limits are not shifted by an outside option, after which ties may fall either way."""
    instance, policies = drawn(seed)
    rng = np.random.default_rng(seed)
    table = np.stack([rng.choice(box.values, 300, p=box.probs) for box in instance.boxes], 1)
    for policy in policies[:2]:
        root = decision_tree(policy, depth=99, size=9999)
        by_tree = simulate(instance, Followed(instance, root), scenarios=table)
        assert np.array_equal(by_tree.payoffs, simulate(instance, policy, scenarios=table).payoffs)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_shares_add_up_and_limits_do_not_overlap(family):
    instance = FAMILIES[family](7, 3)
    root = decision_tree(solve(instance, 0.0).policy, depth=99, size=9999)
    assert root.share == pytest.approx(1.0)
    assert sum(leaf.share for leaf in leaves(root)) == pytest.approx(1.0)
    for node in inner(root):
        assert node.share > 0
        if node.parts:
            assert node.kind == "open"
            assert sum(part.share for part in node.parts) == pytest.approx(node.share)
            assert node.parts[0].high == math.inf
            assert node.parts[-1].low == -math.inf
            for upper, lower in zip(node.parts, node.parts[1:], strict=False):
                assert upper.low == lower.high


def test_the_tight_family_is_four_lines():
    root = decision_tree(solve(tight(height=1000.0), 0.0).policy)
    assert root.size == 4
    assert (root.kind, root.boxes, root.condition()) == ("open", ("A",), "")
    search, claim = root.parts
    assert (search.kind, search.boxes) == ("open", ("B",))
    assert search.parts[0].kind == "take"
    assert (claim.kind, claim.boxes, claim.share) == ("claim", ("B",), pytest.approx(0.5))
    assert claim.condition("k€") == "best seen is below 1.002 k€"
    assert search.condition() == "best seen is 1.002 or more"


@pytest.mark.parametrize(("depth", "size"), [(1, 99), (2, 99), (99, 2), (99, 7), (4, 12)])
def test_a_tree_keeps_its_bounds_and_says_where_it_goes_on(depth, size):
    instance = FAMILIES["exposed"](12, 1)
    policy = solve(instance, 0.0).policy
    root = decision_tree(policy, depth=depth, size=size)
    assert root.size <= size
    assert sum(leaf.share for leaf in leaves(root)) == pytest.approx(1.0)
    cut = [leaf for leaf in leaves(root) if leaf.kind == "more"]
    assert cut
    assert all(leaf.boxes for leaf in cut)
    for leaf in leaves(root):
        assert "Go on" in leaf.action() or leaf.kind != "more"


def test_many_values_make_no_larger_tree():
    def instance(n_atoms):
        return PandoraInstance(
            [Box.normal(3.0, 1.0, 0.1, f"n{k}", n_atoms=n_atoms) for k in range(3)]
        )

    few, many = (decision_tree(solve(instance(n), 0.0).policy, depth=9, size=99) for n in (8, 500))
    assert many.size == few.size


def test_words_say_all_of_it():
    policy = solve(hiring(), 0.0).policy
    said = " ".join(explain(policy, "k€"))
    for name in hiring().names:
        assert name in said
    assert "Open E first, which costs 1 k€." in said
    assert "16.14 k€ or more" in said
    assert "take B unseen: it is worth 30 k€ on average." in said
    assert "On average this earns 38.61 k€" in said


def test_simple_policies_have_simple_words():
    free = PandoraInstance([Box([1.0, 3.0], [0.5, 0.5], 5.0, "only")])
    assert explain(solve(free, 0.0).policy)[0].startswith("Take only unseen and open nothing")
    nothing = PandoraInstance([Box([-3.0, 1.0], [0.5, 0.5], 1.0, "bad")])
    policy = solve(nothing, 0.0).policy
    assert explain(policy)[0] == "Open nothing."
    assert decision_tree(policy).kind == "take"
    plain = TwoPhasePolicy(tight(height=10.0))
    assert explain(plain)[0].startswith("Open B (limit 5), A (limit 2), in this order")


def test_bad_bounds_are_named():
    with pytest.raises(ConfigError, match="depth >= 1"):
        decision_tree(TwoPhasePolicy(tight()), depth=0)
