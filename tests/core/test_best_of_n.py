"""Best-of-n against its exact law, and the bound against its exact distance."""

import itertools

import pytest
import torch

from esscher.core import Table, best_of_n, best_of_n_kl, best_of_n_kl_bound, best_of_n_law
from esscher.errors import ConfigError, NumericsError, ShapeError
from tests.core.test_sample import p_value
from tests.worlds import random_law, seeded, toy_posterior, toy_prior, toy_target


def score():
    return toy_target().log_weight(torch.arange(364))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_law_is_that_of_all_tuples(n):
    law = Table(random_law(5, 0))
    values = torch.tensor([0.0, 1.0, 1.0, -torch.inf, 2.0], dtype=torch.float64)
    wanted = torch.zeros(5, dtype=torch.float64)
    for draws in itertools.product(range(5), repeat=n):
        top = max(values[i] for i in draws)
        best = [i for i in draws if values[i] == top]
        for i in best:
            wanted[i] += law.probs[list(draws)].prod() / len(best)
    torch.testing.assert_close(best_of_n_law(law, values, n).probs, wanted)


def test_draws_follow_the_law():
    result = best_of_n(toy_target(), toy_prior(), 20_000, pool=4, rng=seeded(0))
    assert p_value(result.x, best_of_n_law(toy_prior(), score(), 4)) > 0.001
    assert p_value(result.x, toy_posterior()) < 1e-6
    assert torch.equal(result.log_target, toy_target().log_density(result.x))
    assert torch.equal(result.log_proposal, toy_prior().log_prob(result.x))
    assert (result.acceptance.mean, result.n_proposed) == (0.25, 80_000)


@pytest.mark.parametrize(
    ("n", "exact"), [(2, 0.1867), (4, 0.6260), (8, 1.1901), (16, 1.8030), (64, 3.0598)]
)
def test_the_distance_to_the_prior_is_below_the_formula(n, exact):
    found = best_of_n_law(toy_prior(), score(), n).kl(toy_prior())
    assert found == pytest.approx(exact, abs=1e-4)
    assert found < best_of_n_kl_bound(n) - 0.005


def test_it_never_is_the_posterior():
    distances = {
        n: best_of_n_law(toy_prior(), score(), n).kl(toy_posterior()) for n in range(1, 65)
    }
    assert min(distances, key=distances.get) == 3
    assert distances[3] == pytest.approx(0.2088, abs=1e-4)


def test_without_ties_the_formula_is_reached():
    law = Table(torch.zeros(20_000, dtype=torch.float64))
    found = best_of_n_law(law, torch.arange(20_000.0), 8).kl(law)
    assert found == pytest.approx(best_of_n_kl_bound(8), abs=1e-3)
    assert found <= best_of_n_kl_bound(8)


def test_far_out_it_keeps_its_digits():
    law = Table(torch.tensor([0.0, -40.0], dtype=torch.float64))
    best = best_of_n_law(law, torch.tensor([0.0, 1.0]), 3)
    assert float(best.probs[1]) == pytest.approx(3 * float(law.probs[1]), rel=1e-9)


def test_bad_input():
    law = toy_prior()
    with pytest.raises(ShapeError, match="364 scores"):
        best_of_n_law(law, torch.zeros(3), 2)
    with pytest.raises(NumericsError, match="score 1 is NaN"):
        best_of_n_law(Table(torch.zeros(2)), torch.tensor([0.0, torch.nan]), 2)
    with pytest.raises(ConfigError, match="n >= 1"):
        best_of_n_law(law, score(), 0)
    with pytest.raises(ConfigError, match="n >= 1"):
        best_of_n_kl_bound(0)
    with pytest.raises(ConfigError, match="pool"):
        best_of_n(toy_target(), law, 2, pool=0, rng=seeded(0))


@pytest.mark.parametrize("n", [1, 2, 16])
def test_the_distance_from_scores_alone(n):
    """Ties and all: the estimate from draws of p0 covers the exact value."""
    score = toy_target().log_weight(torch.arange(364))
    law = toy_prior()
    exact = best_of_n_law(law, score, n).kl(law)
    drawn = score[law.sample(4000, rng=seeded(0)).x]
    found = best_of_n_kl(drawn, n, rng=seeded(1))
    assert abs(found.mean - exact) < 4 * found.se + 1e-9
    assert found.se < 0.05
    assert found.unit == "nats"
