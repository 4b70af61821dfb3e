"""Accuracy, log loss and calibration, against sums by hand and simulated judges."""

import math

import pytest
import torch

from esscher.align.preferences import assess
from esscher.align.preferences.assess import favourites
from esscher.core import clopper_pearson
from esscher.errors import DataError, ShapeError
from tests.align import worlds


def logit(*probabilities):
    return torch.logit(torch.tensor(probabilities, dtype=torch.float64))


def ones(n):
    return torch.ones(n, dtype=torch.float64)


def judged(n, seed, sharpen=1.0):
    """Predictions of n pairs, and what a judge of the true probabilities says."""
    rng = worlds.seeded(seed)
    true = 1.5 * torch.randn(n, generator=rng, dtype=torch.float64)
    label = (torch.rand(n, generator=rng, dtype=torch.float64) < true.sigmoid()).double()
    return sharpen * true, label


def test_numbers_of_a_few_pairs_by_hand():
    fit = assess(logit(0.92, 0.62, 0.28, 0.64), ones(4))
    assert fit.accuracy.mean == 0.75
    assert (fit.accuracy_low, fit.accuracy_high) == clopper_pearson(3, 4)
    losses = [-math.log(p) for p in (0.92, 0.62, 0.28, 0.64)]
    assert fit.log_loss.mean == pytest.approx(sum(losses) / 4)
    bins = [(b.low, b.n, b.predicted.mean, b.observed.mean) for b in fit.calibration]
    assert bins == [
        (pytest.approx(0.6), 2, pytest.approx(0.63), 1.0),
        (pytest.approx(0.7), 1, pytest.approx(0.72), 0.0),
        (pytest.approx(0.9), 1, pytest.approx(0.92), 1.0),
    ]
    assert fit.calibration_error.mean == pytest.approx((2 * 0.37 + 0.72 + 0.08) / 4)


def test_the_order_of_a_pair_does_not_matter():
    log_odds, label = judged(300, 0)
    one, other = assess(log_odds, label), assess(-log_odds, 1 - label)
    assert one.log_loss.mean == pytest.approx(other.log_loss.mean, rel=1e-12)
    parts = ("accuracy", "calibration", "calibration_error")
    assert all(getattr(one, name) == getattr(other, name) for name in parts)


def test_a_tie_counts_half():
    predicted, observed = favourites(torch.zeros(2), torch.tensor([1.0, 0.0]))
    assert predicted.tolist() == observed.tolist() == [0.5, 0.5]
    fit = assess(torch.zeros(3, dtype=torch.float64), ones(3))
    assert fit.accuracy.mean == 0.5
    assert fit.log_loss.mean == pytest.approx(math.log(2))
    assert fit.accuracy_low == clopper_pearson(1, 3)[0]
    assert fit.accuracy_high == clopper_pearson(2, 3)[1]


def test_a_sure_model_is_in_the_last_bin():
    (only,) = assess(torch.tensor([50.0, -800.0]).double(), torch.tensor([1.0, 0.0])).calibration
    assert (only.low, only.high, only.n) == (0.95, 1.0, 2)


def test_true_probabilities_are_calibrated_within_the_noise():
    fit = assess(*judged(20_000, 1))
    assert fit.calibration_error.mean < 0.015
    for b in fit.calibration:
        low, high = b.observed.interval(0.999)
        assert low <= b.predicted.mean <= high
    assert sum(b.n for b in fit.calibration) == 20_000


def test_overconfidence_shows_in_every_number_but_the_accuracy():
    log_odds, label = judged(5_000, 2)
    honest, sharp = assess(log_odds, label), assess(4 * log_odds, label)
    assert sharp.accuracy == honest.accuracy
    assert sharp.log_loss.mean > honest.log_loss.mean + 0.1
    assert sharp.calibration_error.mean > 0.1 + honest.calibration_error.mean
    last = sharp.calibration[-1]
    assert last.observed.mean < last.predicted.mean - 0.05


def test_margins_that_are_no_log_odds_give_an_accuracy_only():
    fit = assess(*judged(50, 3), probabilistic=False)
    assert fit.accuracy.n == 50
    assert (fit.log_loss, fit.calibration, fit.calibration_error) == (None, (), None)


def test_the_same_seed_gives_the_same_numbers(no_global_state):
    pairs = judged(200, 4)
    assert assess(*pairs, seed=1) == assess(*pairs, seed=1)
    assert assess(*pairs, seed=1).calibration_error != assess(*pairs, seed=2).calibration_error


@pytest.mark.parametrize(
    ("log_odds", "label", "error", "words"),
    [
        (torch.zeros(3), torch.zeros(2), ShapeError, r"\(3,\) and \(2,\)"),
        (torch.zeros(0), torch.zeros(0), ShapeError, "N >= 1"),
        (torch.tensor([math.nan]), torch.ones(1), DataError, "not NaN"),
        (torch.zeros(1), torch.tensor([1.5]), DataError, r"labels in \[0, 1\]"),
    ],
)
def test_what_cannot_be_judged_is_refused(log_odds, label, error, words):
    with pytest.raises(error, match=words):
        assess(log_odds, label)
