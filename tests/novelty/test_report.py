"""What the report computes, and that it shows what it should."""

import numpy as np
import pytest

from esscher.kit.runs.folder import Run
from esscher.novelty.classifier import NoveltyClassifier
from esscher.novelty.designs import simulate
from esscher.novelty.options import FitOptions
from esscher.novelty.report import (
    calibration,
    confusion,
    discriminant_axes,
    principal_axes,
    write_report,
)


def test_axes_that_tell_groups_apart_and_axes_of_spread():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2, 3], 200)
    rows = rng.standard_normal((800, 5)) * [1, 30, 1, 1, 1]
    rows[:, 0] += 9 * (group == 1)
    rows[:, 3] += 6 * (group == 2)
    rows[:, 4] += 4 * (group == 3)
    axes = discriminant_axes(rows, group, count=4)
    assert axes.shape == (5, 3)
    units = axes / np.linalg.norm(axes, axis=0)
    assert abs(units[0, 0]) > 0.9
    assert abs(units[1]).max() < 0.1
    assert discriminant_axes(rows, group).shape == (5, 2)
    assert discriminant_axes(rows, np.zeros(800, int), count=4).shape == (5, 2)
    one = discriminant_axes(rows[:, :1], group)
    assert one.shape == (1, 2)
    assert not one[0, 1]

    plane = (rows - rows.mean(0)) @ principal_axes(rows, count=4)
    assert plane.shape == (800, 4)
    assert np.cov(plane.T) == pytest.approx(np.diag(np.diag(np.cov(plane.T))), abs=1e-8)
    assert (np.diff(plane.var(0)) <= 1e-9).all()
    turned = principal_axes(rows * [1, 7, 1, 1, 1], count=4) * np.array([[1], [7], [1], [1], [1]])
    assert turned == pytest.approx(principal_axes(rows, count=4))
    assert principal_axes(np.ones((5, 1))).shape == (1, 2)


def test_shares_in_bins_are_counted():
    proba = np.array([0.0, 0.04, 0.5, 0.52, 1.0])
    novel = np.array([False, True, True, False, True])
    bins = calibration(proba, novel)
    assert [b["n"] for b in bins] == [2, 2, 1]
    assert [b["observed"] for b in bins] == [0.5, 0.5, 1.0]
    assert bins[0]["predicted"] == pytest.approx(0.02)
    assert bins[1]["se"] == pytest.approx(np.sqrt(0.125))


@pytest.mark.parametrize("dim", [2, 6])
@pytest.mark.parametrize("inference", ["vb", "gibbs"])
def test_a_report_shows_batch_chain_or_starts_and_truth(tmp_path, inference, dim):
    sim = simulate(factor=0.3, dim=dim, seed=0)
    settings = {"n_init": 2, "n_samples": 50, "burn_in": 30, "random_state": 0}
    model = NoveltyClassifier(inference=inference, **settings).fit(sim.train, sim.labels)
    model.fit_novel(sim.test)
    names, columns, counts = confusion(model, sim.truth, model.batch_components())
    assert (names, columns) == (list("1234567"), ["1", "2", "3", "-1"])
    assert counts.sum() == len(sim.test)
    run = Run.create(tmp_path, "novelty", "fit", "x", config=FitOptions(), seed=0)
    page = write_report(run, model, sim.test, sim.truth, title="A title").read_text()
    for word in ("A title", "Against the truth", "calibrated", "Brier", "principal axis 1"):
        assert word in page
    assert ("principal axis 3" in page) == (dim > 2)
    assert ("discriminant axis 3" in page) == (dim > 2)
    assert ("Starts" in page) == (inference == "vb")
    assert ("Trace of the number of clusters" in page) == (inference == "gibbs")
    assert ("Mean-field posteriors" in page) == (inference == "vb")
