"""The scikit-learn face: its rules, its outputs, bad input, and what is read back."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from esscher.errors import CheckpointError, ConfigError, DataError, ShapeError
from esscher.novelty.classifier import NoveltyClassifier
from esscher.novelty.designs import simulate
from esscher.novelty.persist import load_classifier, save_classifier
from esscher.novelty.settings import NIWPrior


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks([NoveltyClassifier(n_init=1)])
def test_the_rules_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def quick(**settings):
    return NoveltyClassifier(**{"n_init": 2, "random_state": 0} | settings)


@pytest.fixture(scope="module")
def sim():
    return simulate(seed=0)


@pytest.fixture(scope="module")
def fitted(sim):
    return quick().fit(sim.train, sim.labels).fit_novel(sim.test)


def test_novelties_are_found_and_clustered(sim, fitted):
    novel = sim.truth > 3
    assert ((fitted.batch_labels() == -1) == novel).mean() >= 0.995
    assert fitted.n_novel_clusters_ >= 3
    assert fitted.batch_labels()[~novel].tolist() == pytest.approx(sim.truth[~novel], abs=0)
    small = fitted.batch_components()[sim.truth == 7]
    assert len(set(small.tolist())) == 1
    assert small[0] >= 3


def test_new_rows_need_no_new_fit(sim, fitted):
    more = simulate(seed=9)
    before = fitted.posterior_
    assert ((fitted.predict(more.test) == -1) == (more.truth > 3)).mean() > 0.99
    assert fitted.posterior_ is before
    joint = fitted.joint_proba(more.test)
    assert joint.shape == (1000, 4)
    assert joint.sum(1) == pytest.approx(np.ones(1000))
    assert np.array_equal(joint[:, -1], fitted.novelty_proba(more.test))
    known = joint[:, :3] / joint[:, :3].sum(1, keepdims=True)
    assert fitted.predict_proba(more.test) == pytest.approx(known)
    cluster = fitted.predict_cluster(more.test)
    assert np.array_equal(cluster >= 3, fitted.predict(more.test) == -1)


def test_a_row_far_from_everything_is_novel(fitted):
    assert fitted.novelty_proba([[300.0, -400.0]])[0] > 0.99
    assert fitted.score_samples([[300.0, -400.0]])[0] < fitted.score_samples([[-4.0, -4.0]])[0] - 5


def test_without_a_batch_the_classes_stand_and_far_rows_are_novel(sim):
    model = quick().fit(sim.train, sim.labels)
    assert model.responsibilities_ is None
    assert (model.predict(sim.train) == sim.labels).mean() > 0.98
    assert (model.predict(sim.test[sim.truth == 7]) == -1).all()
    with pytest.raises(ConfigError, match="there was no batch"):
        model.batch_labels()


def test_the_density_integrates_to_one(fitted):
    side = np.linspace(-60, 60, 481)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    assert float(np.exp(fitted.score_samples(grid)).sum() * 0.25**2) == pytest.approx(1, abs=0.03)


def test_marked_rows_are_the_batch(sim, fitted):
    X = np.concatenate([sim.train, sim.test])
    y = np.concatenate([sim.labels, np.full(len(sim.test), 99)])
    marked = quick(unlabelled=99).fit(X, y)
    assert np.array_equal(marked.batch_labels(), fitted.batch_labels())
    assert marked.elbo_ == fitted.elbo_


def test_units_of_the_columns_change_nothing(sim, fitted):
    unit, shift = np.array([1000.0, 0.01]), np.array([5.0, -7.0])
    other = quick().fit(sim.train * unit + shift, sim.labels).fit_novel(sim.test * unit + shift)
    assert (other.batch_labels() == fitted.batch_labels()).mean() > 0.999
    jacobian = len(sim.test) * float(np.log(unit).sum())
    assert other.elbo_ == pytest.approx(fitted.elbo_ - jacobian, abs=0.5)
    raw = quick(scale=False).fit(sim.train, sim.labels).fit_novel(sim.test)
    assert raw.elbo_ == pytest.approx(fitted.elbo_, abs=3.0)


def test_pipelines_and_searches(sim):
    y = np.concatenate([sim.labels, np.full(len(sim.test), 0)])
    X = np.concatenate([sim.train, sim.test])
    pipe = make_pipeline(StandardScaler(), quick(n_init=1, unlabelled=0)).fit(X, y)
    assert ((pipe.predict(sim.test) == -1) == (sim.truth > 3)).mean() > 0.98
    grid = GridSearchCV(quick(n_init=1), {"known_trust": [1.0, 50.0]}, cv=2)
    assert grid.fit(sim.train, sim.labels).best_score_ > 0.95


def test_swapped_labels_hurt_plain_estimates_more():
    sim = simulate(seed=2, swapped=120)
    truth = sim.truth > 3
    right = {}
    for robust in ("mcd", "empirical"):
        model = quick(robust=robust, n_init=1).fit(sim.train, sim.labels)
        called = model.predict(sim.test)
        right[robust] = ((called == -1) == truth).mean()
    assert right["mcd"] >= right["empirical"] + 0.02
    suspects = quick().fit(sim.train, sim.labels).robust_[2].suspect.sum()
    assert suspects > 55


def test_string_labels_stay_and_novelties_have_a_name():
    X, y = make_blobs(120, centers=[(-6, 0), (6, 0)], random_state=0)
    names = np.array(["tea", "cocoa"])[y]
    model = quick().fit(X, names).fit_novel([[0.0, 90.0]] * 8 + [[-6.0, 0.0]])
    assert model.batch_labels().tolist() == ["novel"] * 8 + ["tea"]
    other = quick(novelty_label="unknown drink").fit(X, names).fit_novel([[0.0, 90.0]] * 8)
    assert other.batch_labels()[0] == "unknown drink"
    with pytest.raises(ConfigError, match="novelties cannot be called 'tea'"):
        quick(novelty_label="tea").fit(X, names)


def test_the_label_of_novelties_is_below_all_numbers():
    X, y = make_blobs(90, centers=3, random_state=0)
    assert quick().fit(X, y).novelty_label_ == -1
    assert quick().fit(X, y - 5).novelty_label_ == -6


def test_batches_without_novelties_of_novelties_only_and_of_copies():
    X, y = make_blobs(300, centers=[(-6, 0), (6, 0)], random_state=1)
    more, _ = make_blobs(200, centers=[(-6, 0), (6, 0)], random_state=2)
    none = quick().fit(X, y).fit_novel(more)
    assert none.n_novel_clusters_ == 0
    assert none.responsibilities_[:, 2:].sum(1).max() < 0.5
    far, _ = make_blobs(100, centers=[(0, 50)], random_state=3)
    every = quick().fit(X, y).fit_novel(far)
    assert (every.batch_labels() == -1).all()
    copies = quick().fit(X, y).fit_novel(np.repeat([[0.0, 50.0], [-6.0, 0.0]], 30, 0))
    assert copies.batch_labels()[0] == -1
    assert copies.batch_labels()[-1] == 0


def test_one_known_class_is_enough():
    X, _ = make_blobs(80, centers=[(0, 0)], random_state=1)
    model = quick().fit(X, np.ones(80)).fit_novel(np.array([[0.0, 0.2], [40.0, 40.0]] * 10))
    assert model.batch_labels().tolist() == [1.0, -1.0] * 10


def test_other_settings_matter(sim, fitted):
    X, y, batch = sim.train, sim.labels, sim.test
    learnt = quick(stick_concentration="gamma").fit(X, y).fit_novel(batch)
    assert learnt.posterior_.concentration is not None
    wide = quick(novel_prior=NIWPrior(0.0, 0.1, 3.0, 10.0)).fit(X, y).fit_novel(batch)
    assert wide.elbo_ != pytest.approx(fitted.elbo_, abs=1.0)
    few = quick(truncation=1).fit(X, y).fit_novel(batch)
    assert few.n_novel_clusters_ == 1
    mixed = fitted.responsibilities_[:, 3:]
    assert np.array_equal(
        quick(rule="argmax").fit(X, y).fit_novel(batch).batch_labels() == -1,
        fitted.responsibilities_.argmax(1) >= 3,
    )
    assert mixed.shape == (1000, 20)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "other"}, "rule must be summed or argmax"),
        ({"truncation": 0}, "truncation must be a whole number"),
        ({"stick_concentration": -1.0}, "stick_concentration must be positive"),
        ({"known_trust": 0.0}, "known_trust must be positive"),
        ({"dirichlet_prior": 0.0}, "dirichlet and concentration must be positive"),
        ({"novel_prior": "wide"}, "novel_prior must be 'auto'"),
        ({"novel_prior": NIWPrior(kappa=0.0)}, "kappa and dof must be positive"),
        ({"start": "nowhere"}, "start must be one of"),
        ({"n_init": 0}, "n_starts and max_iter"),
    ],
)
def test_settings_out_of_range(settings, message):
    X, y = make_blobs(90, centers=3, random_state=0)
    with pytest.raises(ConfigError, match=message):
        quick(**settings).fit(X, y)


def test_bad_rows_are_named():
    X, y = make_blobs(90, centers=3, random_state=0)
    with pytest.raises(ValueError, match="NaN"):
        quick().fit(np.where(X > 0, np.nan, X), y)
    with pytest.raises(ValueError, match="NaN"):
        quick().fit(X, y).fit_novel([[np.nan, 1.0]])
    with pytest.raises(DataError, match="class 7 has one training row"):
        quick().fit(np.concatenate([X, [[0.0, 0.0]]]), np.append(y, 7))
    with pytest.raises(DataError, match="no row is labelled"):
        quick(unlabelled=0).fit(X, np.zeros(90, int))
    with pytest.raises(ShapeError, match="dirichlet_prior needs 1 or 4 numbers"):
        quick(dirichlet_prior=[1.0, 2.0]).fit(X, y)
    with pytest.raises(ShapeError, match="novelties' mean needs 2 numbers"):
        quick(novel_prior=NIWPrior(mean=[1.0, 2.0, 3.0])).fit(X, y)


def test_what_is_saved_predicts_the_same(sim, fitted, tmp_path):
    model = quick(novel_prior=NIWPrior(0.0, 0.1, 3.0, [10.0, 9.0]), stick_concentration="gamma")
    for number, one in enumerate((fitted, model.fit(sim.train, sim.labels).fit_novel(sim.test))):
        folder = tmp_path / str(number)
        save_classifier(one, folder)
        back = load_classifier(folder)
        more = simulate(seed=8).test
        assert np.array_equal(back.joint_proba(more), one.joint_proba(more))
        assert np.array_equal(back.batch_labels(), one.batch_labels())
        assert back.predict(more).dtype == one.predict(more).dtype
        assert back.starts_ == one.starts_
        assert back.elbo_ == one.elbo_
        assert not list(folder.glob("*.pkl"))


def test_damaged_folders_are_refused(fitted, tmp_path):
    with pytest.raises(CheckpointError, match="holds no novelty model"):
        load_classifier(tmp_path)
    save_classifier(fitted, tmp_path)
    weights = tmp_path / "novelty.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="holds no novelty model"):
        load_classifier(tmp_path)
    (tmp_path / "novelty.json").write_text('{"format": 9}')
    with pytest.raises(CheckpointError, match="of format 9, not 1"):
        load_classifier(tmp_path)
