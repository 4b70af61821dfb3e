"""One estimator over all inferences: what a chain is summed up to, and fits that go on."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from esscher.errors import ConfigError
from esscher.kit.runs.seeds import rng_state
from esscher.kit.runs.tree import flatten_tree, unflatten_tree
from esscher.novelty.cavi import stick_posterior
from esscher.novelty.classifier import NoveltyClassifier
from esscher.novelty.designs import simulate
from esscher.novelty.gibbs import GIBBS, blocked_gibbs, draw_parameters
from esscher.novelty.inference import INFERENCES
from esscher.novelty.model import Posterior
from esscher.novelty.niw import NIW
from esscher.novelty.persist import load_classifier, save_classifier
from esscher.novelty.predictive import mixture_of, mixture_of_draws, predict, weights_of
from esscher.novelty.sampling import Rows, component_scores, run_chain, state_of
from esscher.novelty.slice_sampler import SLICE, slice_sampler
from tests.novelty.problems import overlapping

CHAINS = ("gibbs", "slice")


@pytest.fixture(scope="module")
def sim():
    return simulate(factor=0.3, seed=0)


def quick(inference, **settings):
    given = {"n_init": 2, "random_state": 0, "n_samples": 120, "burn_in": 120}
    return NoveltyClassifier(inference=inference, **given | settings)


@pytest.fixture(scope="module")
def fitted(sim):
    return {name: quick(name).fit(sim.train, sim.labels).fit_novel(sim.test) for name in INFERENCES}


@pytest.mark.parametrize("name", INFERENCES)
def test_every_inference_finds_the_same_classes_and_clusters(sim, fitted, name):
    model = fitted[name]
    novel = sim.truth > 3
    assert ((model.batch_labels() == -1) == novel).mean() >= 0.99
    clusters = model.batch_components()
    assert adjusted_rand_score(sim.truth, clusters) > 0.9
    assert adjusted_rand_score(fitted["vb"].batch_components(), clusters) > 0.9
    assert model.n_novel_clusters_ == len(np.unique(clusters[clusters >= 3]))
    more = simulate(seed=9)
    assert ((model.predict(more.test) == -1) == (more.truth > 3)).mean() > 0.98
    joint = model.joint_proba(more.test)
    assert joint.sum(1) == pytest.approx(np.ones(len(joint)))
    assert np.array_equal(joint[:, -1], model.novelty_proba(more.test))
    assert model.novelty_proba([[300.0, -400.0]])[0] > 0.99
    # A row far from everything is of a cluster that has no other row.
    far = model.predict_cluster([[300.0, -400.0]])[0]
    assert far not in clusters
    near = model.predict_cluster(sim.test)
    assert adjusted_rand_score(near, clusters) > 0.9


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_summed_up_by_shares_majorities_and_a_partition(sim, fitted, name):
    model = fitted[name]
    assert model.elbo_ is None
    assert model.starts_ == []
    assert model.n_iter_ == 240
    assert len(model.trace_.log_joint) == 240
    assert isinstance(model.converged_, bool)
    novel = model.batch_novelty_proba()
    assert np.array_equal(novel, (novel * 120).round() / 120)
    called = model.batch_components() >= 3
    assert np.array_equal(called, novel > 0.5)
    shares = model.responsibilities_
    assert shares.shape == (len(sim.test), 3 + model.n_novel_clusters_ + 1)
    assert shares.sum(1) == pytest.approx(np.ones(len(shares)))
    assert not shares[called, -1].any()
    sizes = np.bincount(model.batch_components())[3:]
    assert list(sizes) == sorted(sizes, reverse=True)
    # The posterior is the conjugate one of this partition, with an empty atom behind.
    q = model.posterior_
    counts = np.bincount(model.batch_components(), minlength=len(q.components))
    assert q.components.kappa - model.prior_.components.kappa[: len(counts)] == pytest.approx(
        counts
    )


def test_the_rule_of_most_draws(sim):
    model = quick("gibbs", rule="argmax", n_samples=60, burn_in=20, start="random")
    model.fit(sim.train, sim.labels).fit_novel(sim.test)
    joint = np.column_stack([model.responsibilities_[:, :3], model.batch_novelty_proba()])
    clear = np.sort(joint, 1)[:, -1] > np.sort(joint, 1)[:, -2]
    wanted = joint.argmax(1) == 3
    assert np.array_equal((model.batch_components() >= 3)[clear], wanted[clear])


def test_fixed_classes_do_not_follow_the_batch(sim):
    moved = sim.test + 0.7 * (sim.truth == 1)[:, None]
    for name in INFERENCES:
        free, fixed = (
            quick(name, transductive=t, n_init=1, n_samples=60, burn_in=60, novelty_label=-1)
            .fit(sim.train, sim.labels)
            .fit_novel(moved)
            for t in (True, False)
        )
        began = fixed.prior_.components.mean[0]
        assert fixed.posterior_.components.mean[0] == pytest.approx(began, abs=1e-4), name
        assert abs(free.posterior_.components.mean[0] - began).max() > 0.1, name


@pytest.mark.parametrize("sampler", [blocked_gibbs, slice_sampler])
def test_the_predictive_is_the_mean_over_parameters(sampler):
    """Student-t laws averaged over draws, against normal densities of drawn parameters."""
    rng = np.random.default_rng(0)
    prior = overlapping(1.5, truncation=12)
    y = np.concatenate([rng.standard_normal((15, 2)), rng.standard_normal((15, 2)) + 5])
    chain = sampler(prior, y, np.repeat([0, 1], 15), sweeps=40, burn_in=20, rng=rng)
    grid = np.array([[0.0, 0.0], [5.0, 5.0], [2.5, 2.5], [-2.0, 1.0], [3.0, 1.0]])
    density, novel = [], []
    # Of sticks as many as draws can tell from infinitely many.
    many = overlapping(1.5, truncation=40)
    for labels in chain.labels.astype(int):
        state = GIBBS.place(many, Rows.of(y), labels, 1.5)
        for _ in range(200):
            drawn = draw_parameters(many, state, rng)
            with np.errstate(divide="ignore"):
                log_w = np.log(drawn.weights)
            each = np.exp(component_scores(log_w, drawn.mean, drawn.factor, grid))
            density.append(each.sum(1))
            novel.append(each[:, 1:].sum(1))
    density, novel = np.array(density), np.array(novel)
    error = density.std(0) / np.sqrt(len(density))
    found = predict(mixture_of_draws(prior, y, chain, np.full(30, -1)), grid)
    assert (abs(np.exp(found.log_density) - density.mean(0)) < 4 * error).all()
    wanted = novel.mean(0) / density.mean(0)
    assert found.shares[:, 1:].sum(1) == pytest.approx(wanted, abs=0.02)
    assert wanted.min() < 0.3
    assert wanted.max() > 0.7


def test_atoms_go_to_the_clusters_of_their_rows():
    rng = np.random.default_rng(1)
    prior = overlapping(1.0)
    y = np.concatenate([rng.normal(0, 1, (10, 2)), rng.normal(9, 1, (10, 2)), [[40.0, 40.0]]])
    chain = blocked_gibbs(prior, y, np.zeros(21, int), sweeps=3, burn_in=0, rng=rng)
    labels = np.repeat([0, 1, 2], [10, 10, 1]).astype(np.int16)
    chain = chain._replace(labels=np.stack([labels] * 3))
    clusters = np.repeat([-1, 0, -1], [10, 10, 1])
    mixture = mixture_of_draws(prior, y, chain, clusters)
    assert mixture.weights.sum() == pytest.approx(1)
    assert mixture.owner[:3].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    shares = predict(
        mixture, np.array([[9.0, 9.0], [0.0, 0.0], [40.0, 40.0], [-60.0, 60.0]])
    ).shares
    assert shares.argmax(1).tolist() == [1, 0, 2, 2]


def test_one_draw_is_the_variational_predictive_of_its_labels():
    rng = np.random.default_rng(2)
    prior = overlapping(1.5, truncation=3)
    y = rng.standard_normal((12, 2)) * 3
    labels = np.repeat([0, 1, 2], 4)
    chain = blocked_gibbs(prior, y, labels, sweeps=1, burn_in=0, rng=rng)
    chain = chain._replace(labels=labels[None].astype(np.int16))
    state = state_of(prior.components, Rows.of(y), labels, 1.5)
    q = Posterior(
        state.law,
        1,
        prior.dirichlet + np.array([8.0, 4.0]),
        stick_posterior(state.counts[1:], 1.5),
    )
    grid = rng.standard_normal((9, 2)) * 6
    one = predict(mixture_of_draws(prior, y, chain, np.repeat([-1, 0, 1], 4)), grid)
    other = predict(mixture_of(prior, q), grid)
    assert one.log_density == pytest.approx(other.log_density)
    assert one.shares[:, :3] == pytest.approx(other.shares[:, :3])
    assert isinstance(q.components, NIW)
    assert weights_of(q.dirichlet, q.sticks).sum() == pytest.approx(1)


@pytest.mark.parametrize("name", CHAINS)
def test_what_is_saved_predicts_the_same(sim, fitted, name, tmp_path):
    one = fitted[name]
    save_classifier(one, tmp_path)
    back = load_classifier(tmp_path)
    more = simulate(seed=8).test
    assert np.array_equal(back.joint_proba(more), one.joint_proba(more))
    assert np.array_equal(back.predict_cluster(more), one.predict_cluster(more))
    assert np.array_equal(back.batch_components(), one.batch_components())
    assert np.array_equal(back.trace_.log_joint, one.trace_.log_joint)
    assert back.trace_[1:][1:] == one.trace_[1:][1:]
    assert (back.converged_, back.n_iter_, back.elbo_) == (one.converged_, one.n_iter_, None)
    assert back.get_params() | {"random_state": 0} == one.get_params()
    save_classifier(quick(name, n_samples=2).fit(sim.train, sim.labels).fit_novel(more), tmp_path)
    assert load_classifier(tmp_path).trace_.scale_reduction == np.inf


class Stops:
    """A keeper that ends a fit at a piece, and remembers as a checkpoint would."""

    def __init__(self, at=None, saved=None):
        self.at, self.saved, self.heard = at, saved, []

    def recall(self):
        return self.saved

    def keep(self, done, total, state, numbers):
        self.heard.append((done, total, dict(numbers)))
        if self.at == done:
            self.saved = unflatten_tree(*flatten_tree(dict(state())))
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", INFERENCES)
@pytest.mark.parametrize("gamma", ["gamma", pytest.param(5.0, marks=pytest.mark.slow)])
def test_a_fit_that_was_stopped_goes_on_to_the_same_end(sim, name, gamma):
    settings = {"stick_concentration": gamma, "n_init": 3, "n_samples": 70, "burn_in": 80}
    model = quick(name, **settings).fit(sim.train, sim.labels)
    whole = Stops()
    wanted = model.fit_novel(sim.test, keeper=whole)
    pieces = [done for done, _, _ in whole.heard]
    if name == "svi":
        # The subsample's search, one minibatch, and every sweep by blocks.
        assert pieces == list(range(1, 2 + wanted.n_iter_))
    else:
        assert pieces == ([1, 2, 3] if name == "vb" else [50, 100, 150])
    expected = (wanted.responsibilities_, wanted.joint_proba(sim.train), wanted.elbo_path_)
    starts, trace = wanted.starts_, wanted.trace_
    for at in pieces:
        first = Stops(at)
        with pytest.raises(KeyboardInterrupt):
            quick(name, **settings).fit(sim.train, sim.labels).fit_novel(sim.test, keeper=first)
        rest = Stops(saved=first.saved)
        again = quick(name, **settings).fit(sim.train, sim.labels)
        again.fit_novel(sim.test, keeper=rest)
        assert rest.heard == whole.heard[pieces.index(at) + 1 :]
        assert np.array_equal(again.responsibilities_, expected[0])
        assert np.array_equal(again.joint_proba(sim.train), expected[1])
        assert again.elbo_path_ == expected[2]
        assert again.starts_ == starts
        if trace is not None:
            assert np.array_equal(again.trace_.log_joint, trace.log_joint)


def test_a_snapshot_holds_the_moment_it_was_taken():
    """A later call still gives the generator and the labels of then."""
    rng = np.random.default_rng(0)
    prior = overlapping(1.0)
    y = rng.standard_normal((8, 2))
    states = []

    class Listens(Stops):
        def keep(self, done, total, state, numbers):
            states.append((done, state, rng_state(rng)))

    run_chain(SLICE, prior, y, np.zeros(8, int), sweeps=60, burn_in=60, rng=rng, keeper=Listens())
    assert [done for done, _, _ in states] == [50, 100, 120]
    for done, state, random in states:
        now = state()
        assert now["random"] == random
        assert now["done"] == done == len(now["log_joint"])
        assert len(now["kept"]) == max(0, done - 60)
        if len(now["kept"]):
            assert np.array_equal(now["kept"][-1], now["labels"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inference": "mcmc"}, "inference must be one of vb, svi, gibbs, slice"),
        ({"n_samples": 0}, "n_samples must be at least 1"),
        ({"burn_in": -1}, "burn_in not negative"),
    ],
)
def test_settings_out_of_range(sim, settings, message):
    with pytest.raises(ConfigError, match=message):
        NoveltyClassifier(**settings).fit(sim.train, sim.labels)
