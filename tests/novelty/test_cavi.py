"""The bound against closed forms, enumeration and its own derivative; its ascent."""

import itertools

import numpy as np
import pytest
from scipy.special import betaln, gammaln, logsumexp

from esscher.novelty.cavi import (
    ascend,
    bound,
    collapsed_bound,
    component_posterior,
    globals_of,
    responsibilities,
)
from esscher.novelty.fit import prior_of
from esscher.novelty.model import GammaPrior, Posterior
from esscher.novelty.niw import NIW, log_evidence, student_log_density
from tests.novelty.problems import niw, problem, start


@pytest.mark.parametrize("seed", range(100))
def test_no_half_step_lowers_the_bound_and_both_forms_agree(seed):
    prior, y, rng = problem(seed)
    phi, q = start(prior, y, rng), None
    last = -np.inf
    for _ in range(12):
        q = globals_of(prior, y, phi, q)
        full, short = bound(prior, q, y, phi), collapsed_bound(prior, q, phi)
        assert full == pytest.approx(short, rel=1e-8)
        assert full >= last - 1e-9 * abs(full)
        phi, _ = responsibilities(q, y)
        last = bound(prior, q, y, phi)
        assert last >= full - 1e-9 * abs(full)


def test_weighted_rows_update_a_component_as_copies_would():
    rng = np.random.default_rng(0)
    law, y = niw(rng, 2, 3), rng.standard_normal((5, 3))
    phi = np.array([[3.0, 0], [1, 0], [2, 0], [0, 0], [1, 0]])
    q = component_posterior(law, y, phi, phi.sum(0))
    copies = np.repeat(y, phi[:, 0].astype(int), 0)
    one = np.ones((len(copies), 1))
    wanted = component_posterior(law.take([0]), copies, one, one.sum(0))
    assert np.allclose(q.scale[0], wanted.scale[0], rtol=1e-12)
    assert np.allclose(q.mean[0], wanted.mean[0], rtol=1e-12)
    assert np.array_equal(q.scale[1], law.scale[1])
    evidence = log_evidence(q, law, phi.sum(0))
    assert evidence[1] == 0
    # The rows one by one, each under the law so far: the chain rule.
    so_far, total = law.take([0]), 0.0
    for row in copies:
        total += float(student_log_density(so_far, row[None])[0, 0])
        so_far = component_posterior(so_far, row[None], np.ones((1, 1)), np.ones(1))
    assert evidence[0] == pytest.approx(total, rel=1e-10)


def log_joint(prior, y, labels):
    """log p(y, ξ): Dirichlet and stick integrals, and each component's evidence."""
    j, k = prior.n_known, len(prior.components)
    phi = np.eye(k)[list(labels)]
    counts = phi.sum(0)
    alpha = prior.dirichlet
    groups = np.append(counts[j:].sum(), counts[:j])
    total = gammaln(alpha.sum()) - gammaln(alpha.sum() + len(y))
    total += (gammaln(alpha + groups) - gammaln(alpha)).sum()
    later = np.cumsum(counts[j:][::-1])[::-1]
    for h in range(k - j - 1):
        total += betaln(1 + counts[j + h], prior.concentration + later[h + 1])
        total -= betaln(1, prior.concentration)
    q = component_posterior(prior.components, y, phi, counts)
    return total + float(log_evidence(q, prior.components, counts).sum())


@pytest.mark.parametrize(
    "seed", [s if s < 6 else pytest.param(s, marks=pytest.mark.slow) for s in range(50)]
)
def test_the_bound_is_below_the_evidence_of_every_assignment(seed):
    rng = np.random.default_rng(seed)
    p = 1 + seed % 3
    prior = prior_of(niw(rng, 1, p, strong=True), niw(rng, 1, p), 2, 0.5, 1.5)
    y = 2 * rng.standard_normal((7, p))
    log_z = logsumexp(
        [log_joint(prior, y, labels) for labels in itertools.product(range(3), repeat=7)]
    )
    best = max(ascend(prior, y, start(prior, y, rng), tol=1e-10).elbo for _ in range(16))
    assert best < log_z
    assert log_z - best < 4


@pytest.mark.parametrize("seed", range(6))
def test_nothing_near_a_fixed_point_is_higher(seed):
    prior, y, rng = problem(2 * seed + 1)
    fit = ascend(prior, y, start(prior, y, rng), max_iter=5000, tol=1e-13)
    q, phi = fit.posterior, fit.phi
    best = bound(prior, q, y, phi)
    c = q.components

    def moved(part, where, by):
        parts = {"mean": c.mean, "kappa": c.kappa, "dof": c.dof, "scale": c.scale}
        parts |= {"dirichlet": q.dirichlet, "sticks": q.sticks}
        changed = parts[part].copy()
        changed[where] += by
        if part == "scale":
            changed[(where[0], where[2], where[1])] = changed[where]
        parts[part] = changed
        law = NIW(parts["mean"], parts["kappa"], parts["dof"], parts["scale"])
        return Posterior(law, q.n_known, parts["dirichlet"], parts["sticks"])

    shapes = {"mean": c.mean, "kappa": c.kappa, "dof": c.dof, "scale": c.scale}
    shapes |= {"dirichlet": q.dirichlet, "sticks": q.sticks}
    for part, array in shapes.items():
        for where in np.ndindex(array.shape):
            for by in (1e-4, -1e-4):
                assert bound(prior, moved(part, where, by), y, phi) <= best + 1e-8, (part, where)


def test_a_learnt_concentration_follows_the_number_of_atoms():
    rng = np.random.default_rng(5)
    known, novel = niw(rng, 1, 2, strong=True), niw(rng, 1, 2)
    found = {}
    for clusters in (1, 6):
        centres = 30 * rng.standard_normal((clusters, 2))
        y = np.repeat(centres, 40, 0) + rng.standard_normal((40 * clusters, 2))
        prior = prior_of(known, novel, 10, 0.5, GammaPrior(1.0, 1.0))
        phi = np.zeros((len(y), 11))
        phi[np.arange(len(y)), 1 + np.repeat(np.arange(clusters), 40)] = 1.0
        learnt = ascend(prior, y, phi).posterior.concentration
        found[clusters] = learnt.shape / learnt.rate
    assert found[6] > 1.5 * found[1]
