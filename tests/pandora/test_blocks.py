"""The additive statistics bound Weitzman's surplus from below, with an error known beforehand."""

import numpy as np
import pytest

from esscher.pandora.blocks import Capped, Opening, gains, statistics, surplus


def draw_law(rng, top):
    values = np.sort(np.append(0.0, rng.random(rng.integers(1, 4)) ** 2 * top))
    return Capped(values, rng.dirichlet(np.ones(len(values))))


def exact_surplus(laws, y):
    """E(max - y)^+ by the integral of 1 - Π F over all atoms."""
    points = np.unique(np.concatenate([[y], *(law.values for law in laws)]))
    points = points[points >= y]
    below = np.ones(len(points))
    for law in laws:
        below *= np.array([law.probs[law.values <= z].sum() for z in points])
    return float(((1 - below)[:-1] * np.diff(points)).sum())


def sets_of(rng, n):
    return [np.flatnonzero(rng.random(n) < 0.6) for _ in range(4)]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("heavy", [False, True])
def test_surplus_is_within_seven_delta_below_the_truth(seed, heavy):
    rng = np.random.default_rng([seed, heavy])
    n = 6
    laws = [draw_law(rng, 3.0) for _ in range(n)]
    if heavy:
        for k in range(3):
            high = 10.0 ** rng.uniform(1, 4)
            laws[k] = Capped(np.array([0.0, high]), np.array([1 - 0.3 / high, 0.3 / high]))
    committing = exact_surplus(laws, 0.0)
    delta = rng.choice([0.02, 0.1]) * committing
    stats = statistics(laws, committing, delta)
    assert bool(len(stats.tails)) <= heavy
    at = np.concatenate([[0.0], rng.random(5) * 3, rng.random(3) * max(x.values[-1] for x in laws)])
    for chosen in sets_of(rng, n):
        found = surplus(stats, stats.hidden[chosen].sum(0), stats.excess[chosen].sum(0), at)
        truth = np.array([exact_surplus([laws[i] for i in chosen], y) for y in at])
        assert (found <= truth + 1e-9 * committing).all()
        assert (found >= truth - 7 * delta).all()


def test_some_law_has_tails_and_they_are_few():
    laws = [Capped(np.array([0.0, 1.0]), np.array([0.5, 0.5]))]
    laws += [Capped(np.array([0.0, 1e6 * k]), np.array([1 - 1e-7, 1e-7])) for k in range(1, 40)]
    committing, delta = exact_surplus(laws, 0.0), 0.05
    stats = statistics(laws, committing, delta)
    assert 1 < len(stats.tails) <= 2 * committing / delta + 2


@pytest.mark.parametrize("width", [1e2, 1e8])
def test_the_number_of_statistics_does_not_grow_with_the_values(width):
    rng = np.random.default_rng(0)
    highs = np.exp(rng.random(200) * np.log(width))
    laws = [Capped(np.array([0.0, h]), np.array([1 - 0.01 / h, 0.01 / h])) for h in highs]
    committing = exact_surplus(laws, 0.0)
    stats = statistics(laws, committing, 0.1 * committing)
    assert len(stats.cuts) + len(stats.tails) < 80


def test_gains_are_what_is_had_over_the_fallback():
    box = Opening(0.3, np.array([0.0, 2.0, 5.0]), np.array([0.5, 0.3, 0.2]))
    extra = np.array([1.0, 0.5, 0.0])
    expected = 0.3 * (2.5 - 1.2) + 0.2 * (5.0 - 1.2) - 0.3
    assert gains([box], 1.2, [extra]) == pytest.approx([expected])
