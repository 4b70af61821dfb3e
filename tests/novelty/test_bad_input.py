"""What data may be like, inference by inference: errors, warnings, and what simply works."""

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from esscher.errors import ConfigError, DataError
from esscher.novelty.classifier import NoveltyClassifier
from esscher.novelty.inference import INFERENCES

CENTRES = [(-6, 0), (6, 0)]
every = pytest.mark.parametrize("name", INFERENCES)


def quick(name="vb", **settings):
    given = {"n_init": 2, "random_state": 0, "n_samples": 60, "burn_in": 40}
    return NoveltyClassifier(inference=name, **given | settings)


@pytest.fixture(scope="module")
def train():
    return make_blobs(200, centers=CENTRES, random_state=1)


@every
def test_a_batch_without_novelties(train, name):
    more, _ = make_blobs(80, centers=CENTRES, random_state=2)
    model = quick(name).fit(*train).fit_novel(more)
    assert model.n_novel_clusters_ == 0
    assert model.batch_novelty_proba().mean() < 0.02
    assert set(model.batch_labels()) == {0, 1}


@every
def test_a_batch_of_novelties_only(train, name):
    far, _ = make_blobs(60, centers=[(0, 50)], random_state=3)
    model = quick(name).fit(*train).fit_novel(far)
    assert (model.batch_labels() == -1).all()
    assert model.n_novel_clusters_ == 1


@every
def test_copies_of_rows(train, name):
    copies = np.repeat([[0.0, 50.0], [-6.0, 0.0]], 30, 0)
    labels = quick(name).fit(*train).fit_novel(copies).batch_labels()
    assert labels.tolist() == [-1] * 30 + [0] * 30


@every
def test_fewer_rows_than_atoms_and_a_single_one(train, name):
    few = quick(name, n_samples=400).fit(*train).fit_novel([[0.0, 50.0], [-6.0, 0.0], [6.0, 1.0]])
    assert few.batch_labels()[0] == -1
    # Two rows say little of how many are novel: a sampler leaves that open.
    assert (few.batch_novelty_proba()[1:] < (0.1 if name == "vb" else 0.7)).all()
    one = quick(name).fit(*train).fit_novel([[0.0, 80.0]])
    assert one.batch_labels().tolist() == [-1]
    assert one.n_novel_clusters_ == 1


@every
def test_one_known_class(name):
    X, _ = make_blobs(120, centers=[(0, 0)], random_state=1)
    far, _ = make_blobs(40, centers=[(40, 40)], random_state=1)
    batch = np.concatenate([X[80:], far])
    labels = quick(name).fit(X[:80], np.ones(80)).fit_novel(batch).batch_labels()
    assert (labels[40:] == -1).all()
    # Novelties are expected just where the only class is, so that samplers leave the rest open.
    if name == "vb":
        assert (labels[:40] == 1.0).mean() > 0.95


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite(train, name, bad):
    X, y = train
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        quick(name).fit(np.where(X > 7, bad, X), y)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        quick(name).fit(X, y).fit_novel([[bad, 1.0]])


@every
def test_names_stay_and_novelties_have_one(train, name):
    X, y = train
    names = np.array(["tea", "cocoa"])[y]
    more, _ = make_blobs([40, 8], centers=[(-6, 0), (0, 90)], random_state=4, shuffle=False)
    labels = quick(name).fit(X, names).fit_novel(more).batch_labels()
    assert (labels == np.repeat(["tea", "novel"], [40, 8])).mean() > 0.95
    with pytest.raises(ConfigError, match="novelties cannot be called 'cocoa'"):
        quick(name, novelty_label="cocoa").fit(X, names)


@every
def test_a_constant_column_gets_a_ridge_aloud(train, name):
    X, y = train
    wide = np.column_stack([X, np.full(len(X), 3.0)])
    with pytest.warns(UserWarning, match=r"rows of class \d lie in a plane") as told:
        model = quick(name).fit(wide, y)
    assert len(told) == 2
    batch = np.concatenate([wide[:60], wide[60:120] + np.array([0, 0, 9])])
    labels = model.fit_novel(batch).batch_labels()
    assert (labels[60:] == -1).all()


def test_a_class_of_few_rows_and_of_one(train):
    X, y = train
    rng = np.random.default_rng(0)
    few = np.concatenate([X, rng.normal((0, 30), 1, (2, 2))])
    with pytest.warns(UserWarning, match="class 7 has 2 rows in 2 columns"):
        model = quick().fit(few, np.append(y, [7, 7]))
    assert model.robust_[2].method == "mrcd"
    assert model.predict([[0.0, 30.0]]).tolist() == [7]
    with pytest.raises(DataError, match="class 7 has one training row"):
        quick().fit(few[:-1], np.append(y, 7))
