"""Plays of policies: all at once as one by one, and in the mean what was computed."""

import math
import subprocess
import sys

import numpy as np
import pytest

from esscher.errors import ConfigError, NumericsError, ShapeError
from esscher.pandora import Box, Claim, Open, PandoraInstance, Take, TwoPhasePolicy, simulate, solve
from esscher.pandora.commit import CommittingPolicy, best_commitment
from esscher.pandora.families import FAMILIES, tight
from esscher.pandora.occupancy import visits


class Asked:
    """A policy of which only the next action is known."""

    def __init__(self, policy):
        self.policy = policy

    def next_action(self, opened):
        return self.policy.next_action(opened)


def drawn(seed, n_boxes=None):
    """Any instance and any policies on it, good or not."""
    rng = np.random.default_rng(seed)
    n = n_boxes or int(rng.integers(1, 6))
    boxes = []
    for i in range(n):
        # Every other instance has many ties.
        values = rng.integers(-2, 9, 4) if seed % 2 else rng.normal(2, 3, 4)
        cost = rng.uniform(0, 1.5) * (rng.random() < 0.8)
        boxes.append(Box(values, rng.dirichlet(np.ones(4)), cost, f"b{i}"))
    instance = PandoraInstance(boxes, outside=[0.0, -1.3, -math.inf][seed % 3])
    places = rng.permutation(n)
    k = int(rng.integers(0, n + 1))
    backup = f"b{places[k]}" if k < n and rng.random() < 0.7 else None
    order = tuple(f"b{i}" for i in places[:k])
    policies = [TwoPhasePolicy(instance, order, backup), solve(instance, 0.0).policy]
    return instance, [*policies, CommittingPolicy(instance), CommittingPolicy(instance, "b0")]


@pytest.mark.parametrize("seed", range(24))
def test_plays_at_once_are_plays_one_by_one(seed):
    instance, policies = drawn(seed)
    rng = np.random.default_rng(seed)
    table = np.stack([rng.choice(box.values, 200) for box in instance.boxes], 1)
    for policy in policies:
        fast = simulate(instance, policy, scenarios=table)
        slow = simulate(instance, Asked(policy), scenarios=table)
        assert np.array_equal(fast.payoffs, slow.payoffs)
        assert fast.opened == slow.opened
        assert fast.ends == slow.ends
        assert fast.spent == slow.spent


@pytest.mark.parametrize("seed", range(12))
def test_the_mean_is_what_was_computed(seed):
    instance, policies = drawn(seed)
    for policy in policies:
        found = simulate(instance, policy, n=20_000, seed=seed)
        assert abs(found.off_by(policy.value)) < 4
        assert found.mean == pytest.approx(found.value.mean - found.cost.mean)
        assert sum(found.spent.values()) == pytest.approx(found.cost.mean)
        assert sum(found.ends.values()) == pytest.approx(1)


def test_a_wrong_value_is_found_out():
    instance = tight(height=10.0)
    policy = solve(instance, 0.0).policy
    assert abs(simulate(instance, policy, 100_000).off_by(policy.value + 0.1)) > 4


@pytest.mark.slow
def test_the_audit_of_fifty_instances():
    """A million plays each; with fifty z-scores one beyond 4 has a chance of 0.3 %."""
    instances = [tight(height=h) for h in (10.0, 100.0, 1000.0)]
    names = [name for name in FAMILIES if name != "tight"]
    instances += [FAMILIES[names[k % len(names)]](3 + k % 6, k) for k in range(47)]
    for seed, instance in enumerate(instances):
        result = solve(instance, 0.0)
        found = simulate(instance, result.policy, 1_000_000, seed)
        assert abs(found.off_by(result.value)) < 4, seed


@pytest.mark.parametrize("seed", range(12))
def test_exact_probabilities_are_the_shares_of_plays(seed):
    instance, policies = drawn(seed)
    for policy in policies[:2]:
        exact, found = visits(policy), simulate(instance, policy, 40_000, seed)
        for name, p in exact.opened.items():
            assert abs(p - found.opened[name]) < 5 * math.sqrt(p * (1 - p) / 40_000) + 1e-12
        assert abs(exact.claimed - found.ends["claim"]) < 0.015
        assert abs(exact.spent - found.cost.mean) < 5 * found.cost.se + 1e-12


def test_the_best_commitment_is_the_best_of_all():
    for seed in range(10):
        instance, _ = drawn(seed, 4)
        every = [CommittingPolicy(instance, name) for name in (None, *instance.names)]
        assert best_commitment(instance).value == pytest.approx(max(p.value for p in every))
    assert best_commitment(PandoraInstance(instance.boxes, 0.0, "obligatory")).closed is None


def test_boxes_that_depend_on_each_other_are_only_played():
    """B is high exactly where A is low: the policy for independent boxes earns something else."""
    instance = PandoraInstance(
        [Box([0, 2], [0.5, 0.5], 0.0, "A"), Box([0, 10], [0.8, 0.2], 1.0, "B")]
    )
    policy = solve(instance, 0.0).policy
    found = simulate(instance, policy, scenarios=[[2.0, 0.0], [0.0, 10.0]])
    # A at 2 has B opened in vain; A at 0 has B claimed.
    assert found.payoffs.tolist() == [1.0, 10.0]
    assert found.payoff.n == 2


class Wrong:
    def __init__(self, *actions):
        self.actions = actions

    def next_action(self, opened):
        return self.actions[len(opened)]


@pytest.mark.parametrize(
    "actions",
    [(Open("A"), Open("A")), (Open("A"), Claim("A")), (Take("A"),), (Open("A"), Take("B"))],
)
def test_what_cannot_be_done_is_refused(actions):
    with pytest.raises(ConfigError, match="cannot be done"):
        simulate(tight(), Wrong(*actions), 5)


def test_bad_input_is_named():
    instance = tight()
    policy = TwoPhasePolicy(instance)
    with pytest.raises(ConfigError, match="n >= 1"):
        simulate(instance, policy, 0)
    with pytest.raises(ShapeError, match=r"\[n, 2\]"):
        simulate(instance, policy, scenarios=[[1.0, 2.0, 3.0]])
    with pytest.raises(NumericsError, match="scenario 1 of box 'B'"):
        simulate(instance, policy, scenarios=[[1.0, 2.0], [1.0, math.nan]])
    nothing = PandoraInstance(instance.boxes, outside=-math.inf)
    with pytest.raises(NumericsError, match="ended with nothing"):
        simulate(nothing, Wrong(Take(None)), 5)
    with pytest.raises(ConfigError, match="obligatory"):
        CommittingPolicy(PandoraInstance(instance.boxes, 0.0, "obligatory"), "A")


def test_one_seed_one_result():
    instance = tight(height=10.0)
    policy = solve(instance, 0.0).policy
    one, two, other = (simulate(instance, policy, 500, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.payoffs, two.payoffs)
    assert not np.array_equal(one.payoffs, other.payoffs)
    low, high = one.payoff.interval()
    assert low < one.mean < high
    assert one.to_json()["quantiles"]["0.5"] == np.quantile(one.payoffs, 0.5)


def test_searching_and_playing_load_no_torch():
    code = (
        "import sys\n"
        "from esscher.pandora import Box, PandoraInstance, simulate, solve\n"
        "import esscher.pandora.explain, esscher.pandora.sensitivity, esscher.pandora.commands\n"
        "i = PandoraInstance([Box([0, 1], [.5, .5], .1)])\n"
        "simulate(i, solve(i).policy, 5)\n"
        "sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
