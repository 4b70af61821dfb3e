"""Stopping as a search through boxes that are all alike."""

import math

import numpy as np
import pytest

from esscher.kit.stopping import ExponentialLaw, normal_cap
from esscher.pandora import BestOfN, Box, PandoraInstance, solve
from esscher.pandora.best_of_n import BoxLaw
from esscher.pandora.law import Exponential, Normal


def test_a_box_and_a_law_are_known_rewards():
    box = Box([0.0, 4.0], [0.75, 0.25], 9.0)
    assert BestOfN(0.5, BoxLaw(box)).fair_cap([]) == pytest.approx(4.0 - 0.5 / 0.25)
    assert BestOfN(0.1, BoxLaw(Exponential(1.0))).fair_cap([]) == pytest.approx(math.log(10))
    found = BestOfN(0.1, BoxLaw(Normal(1.0, 2.0))).fair_cap([])
    assert found == pytest.approx(normal_cap(1.0, 2.0, 0.1), rel=1e-9)


def test_a_rule_earns_what_as_many_equal_boxes_are_worth():
    law, n = Box([1.0, 2.0, 5.0], [0.5, 0.3, 0.2], 0.4), 4
    instance = PandoraInstance([law.replace(name=f"d{k}") for k in range(n)], 0.0, "obligatory")
    rule = BestOfN(0.4, BoxLaw(law), most=n)
    total = 0.0
    for places in np.ndindex(*[3] * n):
        seen = law.values[list(places)]
        k = next(k for k in range(1, n + 1) if rule.should_stop(seen[:k]))
        total += law.probs[list(places)].prod() * (seen[:k].max() - 0.4 * k)
    assert total == pytest.approx(solve(instance).value)


def payoffs(rule, table, history):
    out = []
    for row, known in zip(table, history, strict=True):
        n = next(n for n in range(1, len(row) + 1) if rule.should_stop(row[:n], known))
        out.append(row[:n].max() - rule.cost * n)
    return np.array(out)


@pytest.mark.slow
@pytest.mark.parametrize(("cost", "known"), [(0.1, 200), (0.03, 200), (0.01, 200), (0.005, 0)])
def test_two_hundred_samples_are_enough_to_learn_from(cost, known):
    """Seen before, or in a search that is worth about as many: within 5 % of knowing the law."""
    rng = np.random.default_rng(1)
    table, history = rng.exponential(1.0, (1500, 400)), rng.exponential(1.0, (1500, known))
    learnt = payoffs(BestOfN(cost, ExponentialLaw(), most=400), table, history)
    best = payoffs(BestOfN(cost, ExponentialLaw(mean=1.0), most=400), table, history)
    assert learnt.mean() > 0.95 * best.mean()
