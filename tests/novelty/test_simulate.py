"""The published designs: sizes, moments, swapped labels."""

import numpy as np
import pytest

from esscher.errors import ConfigError
from esscher.novelty.designs import simulate


def test_the_classification_design():
    sim = simulate(dim=4, factor=2.5, seed=1)
    assert sim.train.shape == (1000, 4)
    assert sim.n_known == 3
    assert np.bincount(sim.labels).tolist() == [0, 300, 300, 400]
    assert np.bincount(sim.truth).tolist() == [0, 500, 500, 625, 225, 250, 250, 150]
    last = sim.test[sim.truth == 7]
    assert last[:, :2].mean(0) == pytest.approx([-10, -10], abs=0.05)
    assert last[:, :2].std(0) == pytest.approx([0.1, 0.1], rel=0.2)
    crossed = [np.corrcoef(sim.test[sim.truth == k][:, :2].T)[0, 1] for k in (5, 6)]
    assert crossed == pytest.approx([0.9, -0.9], abs=0.05)
    assert sim.test[:, 2:].std(0) == pytest.approx([1, 1], rel=0.1)


@pytest.mark.parametrize(
    ("design", "variance", "last"), [("mcmc_easy", 0.2, 0.2), ("mcmc_hard", 0.75, 0.375)]
)
def test_the_designs_beside_sampling(design, variance, last):
    sim = simulate(design, dim=3)
    assert (sim.n_known, len(sim.train), len(sim.test)) == (2, 1000, 1000)
    assert sim.test[sim.truth == 1][:, 0].var() == pytest.approx(variance, rel=0.3)
    assert sim.test[sim.truth == 5][:, 1].var() == pytest.approx(last, rel=0.3)
    assert sim.test[:, 2].var() == pytest.approx(0.2, rel=0.2)


def test_the_design_with_outliers():
    sim = simulate("sensitivity")
    assert np.bincount(sim.truth).tolist() == [0, 20, 20, 20, 18, 17, 5]
    assert np.bincount(sim.labels).tolist() == [0, 50, 50, 50]


def test_swapped_labels_come_from_both_sides():
    clean, noisy = simulate(seed=3), simulate(seed=3, swapped=120)
    assert np.array_equal(clean.train, noisy.train)
    changed = clean.labels != noisy.labels
    assert int(changed.sum()) == 120
    assert set(clean.labels[changed]) == {2, 3}
    assert np.bincount(noisy.labels).tolist() == [0, 300, 300, 400]


def test_one_seed_one_sample():
    assert np.array_equal(simulate(seed=5).test, simulate(seed=5).test)
    assert not np.array_equal(simulate(seed=5).test, simulate(seed=6).test)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"design": "other"}, "design must be one of"),
        ({"dim": 1}, "dim must be at least 2"),
        ({"factor": 0.0}, "factor positive"),
        ({"swapped": -1}, "swapped not negative"),
        ({"swapped": 900}, "cannot swap 900 labels"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        simulate(**settings)
