"""Stochastic steps and sweeps by blocks against the full fit."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from esscher.errors import CheckpointError, ConfigError, DataError, ShapeError
from esscher.novelty.by_blocks import label, state_from_arrays, state_to_arrays, sweep
from esscher.novelty.cavi import bound, bound_of_sums, globals_of, globals_of_sums, responsibilities
from esscher.novelty.designs import simulate
from esscher.novelty.fit import SearchConfig, search
from esscher.novelty.model import GammaPrior, Prior
from esscher.novelty.source import ArraySource
from esscher.novelty.svi import StochasticConfig, init, step, stochastic_fit
from esscher.novelty.sweep import Batch, expect
from tests.novelty.test_search import published_prior
from tests.novelty.test_sweep import same

QUICK = StochasticConfig(
    epochs=1, batch=500, pool=1000, subsample=800, search=SearchConfig(n_starts=1, moves=False)
)


@pytest.fixture(scope="module")
def sim():
    return simulate(factor=2.0, seed=0)


@pytest.fixture(scope="module", params=["known", "learnt"])
def prior(sim, request):
    found = published_prior(sim, truncation=8)
    if request.param == "known":
        return found
    return Prior(found.components, 3, found.dirichlet, GammaPrior(2.0, 1.0))


@pytest.fixture(scope="module")
def begun(sim, prior):
    return init(prior, ArraySource(sim.test), QUICK)


def test_a_step_with_all_rows_at_rate_one_is_a_sweep(sim, prior, begun):
    phi, _ = responsibilities(begun.posterior, sim.test)
    sums = expect(prior, begun.posterior, Batch(sim.test))
    wanted = globals_of_sums(prior, sums, begun.posterior)
    found = step(prior, begun, sim.test, 1.0)
    same(found.posterior, wanted, 1e-10)
    assert found.posterior.sticks[-1, 1] == pytest.approx(found.pull + found.sums.counts[-1])
    if found.posterior.concentration is not None:
        assert found.posterior.concentration == pytest.approx(wanted.concentration)
    by_blocks = sweep(prior, begun, ArraySource(sim.test), 1e-7)
    same(by_blocks.posterior, wanted, 1e-10)
    assert by_blocks.path[0] == pytest.approx(bound(prior, wanted, sim.test, phi), rel=1e-10)


def test_noisy_gradients_are_right_on_average(sim, prior, begun):
    """All parameters are linear in sums: so are their natural gradients."""
    rng = np.random.default_rng(0)
    parts = rng.permutation(len(sim.test)).reshape(20, -1)
    steps = [step(prior, begun, sim.test[part], 0.3).sums.moments for part in parts]
    whole = step(prior, begun, sim.test, 0.3).sums.moments
    assert np.mean(steps, 0) == pytest.approx(whole, rel=1e-10, abs=1e-8)
    assert np.std(steps, 0).max() > 1


def test_a_step_of_any_rate_leaves_laws(sim, prior, begun):
    state = begun
    for t in range(1, 30):
        state = step(prior, state, sim.test[t : t + 1], QUICK.rate(t))
        assert np.linalg.eigvalsh(state.posterior.components.scale).min() > 0
        assert state.sums.counts.sum() == pytest.approx(len(sim.test))


def test_the_bound_by_blocks_is_the_bound(sim, prior):
    fit = stochastic_fit(prior, sim.test, QUICK)
    phi, _ = responsibilities(fit.state.posterior, sim.test)
    q = globals_of(prior, sim.test, phi, fit.state.posterior)
    assert fit.elbo == pytest.approx(bound(prior, q, sim.test, phi), rel=1e-8)
    assert fit.path == pytest.approx(sorted(fit.path), rel=1e-9)
    assert fit.converged
    same(fit.posterior, q, 1e-8)
    assert fit.novelty == pytest.approx(phi[:, 3:].sum(1), abs=1e-9)
    assert np.array_equal(fit.components("argmax"), phi.argmax(1))
    assert np.array_equal(fit.components() >= 3, fit.novelty > 0.5)
    assert np.array_equal(fit.known, phi[:, :3].argmax(1))
    assert np.array_equal(fit.atom, 3 + phi[:, 3:].argmax(1))


@pytest.mark.parametrize("epochs", [0, 2])
def test_labels_are_those_of_the_full_fit_whatever_the_order_on_disk(tmp_path, epochs):
    sim = simulate(dim=5, factor=6.0, seed=1)
    prior = published_prior(sim)
    full = search(prior, sim.test, SearchConfig(n_starts=2)).best
    config = StochasticConfig(epochs=epochs, batch=600, pool=2400, subsample=2000,
                              search=SearchConfig(n_starts=2))  # fmt: skip
    np.save(tmp_path / "sorted.npy", sim.test)
    fit = stochastic_fit(prior, tmp_path / "sorted.npy", config)
    novel = full.phi[:, 3:].sum(1) > 0.5
    assert ((fit.novelty > 0.5) == novel).mean() > 0.999
    wanted = adjusted_rand_score(sim.truth, full.phi.argmax(1))
    assert adjusted_rand_score(sim.truth, fit.components()) > wanted - 0.01
    assert fit.elbo == pytest.approx(full.elbo, abs=5.0)


def test_steps_alone_come_near(sim, prior):
    """From a poor start: steps raise the bound to near where sweeps end."""
    source = ArraySource(sim.test)
    begun = init(prior, source, StochasticConfig(subsample=60, search=QUICK.search))
    rng = np.random.default_rng(0)
    state = begun
    for t in range(1, 81):
        rows = rng.choice(len(sim.test), 400, replace=False)
        state = step(prior, state, sim.test[rows], QUICK.rate(t))
    ends = [sweep(prior, each, source, 1e-7).path[0] for each in (begun, state)]
    done = state
    while not done.converged:
        done = sweep(prior, done, source, 1e-7)
    assert done.path[-1] - ends[1] < 0.15 * (done.path[-1] - ends[0])


def test_atoms_are_put_in_order_of_size(sim, prior, begun):
    j, batch = 3, Batch(sim.test)
    sums = expect(prior, begun.posterior, batch)
    used = int((sums.counts[j:] > 1).sum())
    smallest_first = np.append(
        np.argsort(-sums.counts[j:])[:used][::-1], np.argsort(-sums.counts[j:])[used:]
    )
    order = np.append(np.arange(j), j + smallest_first)
    backwards = sums._replace(moments=sums.moments[order])
    q = globals_of_sums(prior, backwards, begun.posterior)
    state = begun._replace(posterior=q, sums=backwards)
    found = sweep(prior, state, ArraySource(sim.test), 1e-7)
    assert (np.diff(found.sums.counts[j:]) <= 1e-3).all()
    plain = expect(prior, q, batch)
    assert found.path[0] > bound_of_sums(prior, globals_of_sums(prior, plain, q), plain) + 1


def test_a_run_goes_on_from_any_state_to_the_same_bits(sim, prior):
    states = []
    whole = stochastic_fit(prior, sim.test, QUICK, on_state=states.append)
    assert [s.steps for s in states[:5]] == [0, 1, 2, 3, 4]
    assert len(states[-1].path) >= 2
    for state in (states[0], states[2], states[-2]):
        back = state_from_arrays(state_to_arrays(state))
        again = stochastic_fit(prior, sim.test, QUICK, state=back)
        assert again.path == whole.path
        assert np.array_equal(again.novelty, whole.novelty)
        assert np.array_equal(again.posterior.components.scale, whole.posterior.components.scale)


def test_one_seed_one_fit(sim, prior):
    one, two = (stochastic_fit(prior, sim.test, QUICK) for _ in range(2))
    assert one.path == two.path


def test_bad_rows_are_named_and_bad_settings_refused(sim, prior, begun):
    bad = sim.test.copy()
    bad[1234, 1] = np.inf
    with pytest.raises(DataError, match="row 1234 of the batch holds inf in column 1"):
        stochastic_fit(prior, bad, QUICK)
    with pytest.raises(DataError, match="row 1234"):
        label(prior, begun, ArraySource(bad))
    with pytest.raises(ShapeError, match="rows need 2 columns, got 3"):
        stochastic_fit(prior, np.zeros((9, 3)), QUICK)
    with pytest.raises(CheckpointError, match="of a batch of 2000 rows, and this one has 9"):
        stochastic_fit(prior, sim.test[:9], QUICK, state=begun)
    for settings, message in (
        ({"epochs": -1}, "epochs must not be negative"),
        ({"batch": 10, "pool": 5}, "1 <= batch <= pool"),
        ({"forgetting": 0.5}, "forgetting must lie in"),
    ):
        with pytest.raises(ConfigError, match=message):
            StochasticConfig(**settings)


def test_fewer_rows_than_atoms(sim):
    fit = stochastic_fit(published_prior(sim), sim.test[-3:], QUICK)
    assert fit.novelty.shape == (3,)
    assert len(fit.posterior.components) == 6
    few = stochastic_fit(published_prior(sim), sim.test, replace(QUICK, subsample=5))
    assert len(few.posterior.components) == 8
