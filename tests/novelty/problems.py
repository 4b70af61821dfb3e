"""Small problems at random."""

import numpy as np

from esscher.novelty.fit import prior_of
from esscher.novelty.model import GammaPrior
from esscher.novelty.niw import NIW


def niw(rng, k, p, *, strong=False):
    mean = 2 * rng.standard_normal((k, p))
    kappa = rng.uniform(0.1, 3, k) + 20 * strong
    dof = p + 1 + rng.uniform(0.1, 5, k) + 20 * strong
    root = rng.standard_normal((k, p, p + 2))
    return NIW(mean, kappa, dof, root @ root.transpose(0, 2, 1) + 0.1 * np.eye(p))


def problem(seed, *, rows=60):
    """A prior and a batch of random sizes."""
    rng = np.random.default_rng(seed)
    p, j, t = int(rng.integers(1, 9)), int(rng.integers(1, 5)), int(rng.integers(1, 11))
    gamma = float(rng.uniform(0.5, 5)) if seed % 2 else GammaPrior(2.0, 1.0)
    prior = prior_of(niw(rng, j, p, strong=True), niw(rng, 1, p), t, rng.uniform(0.1, 2), gamma)
    centres = np.concatenate([prior.components.mean[:j], 4 * rng.standard_normal((2, p))])
    y = centres[rng.integers(len(centres), size=rows)] + rng.standard_normal((rows, p))
    return prior, y, rng


def start(prior, y, rng):
    phi = rng.dirichlet(np.ones(len(prior.components)), size=len(y))
    return phi / phi.sum(1, keepdims=True)


def overlapping(gamma, *, truncation=3, n_known=1):
    """A prior in the plane whose laws overlap, so that labels can change and a chain go round."""
    j = n_known
    scale = np.tile(6 * np.eye(2), (j, 1, 1))
    known = NIW(np.zeros((j, 2)), np.full(j, 3.0), np.full(j, 9.0), scale)
    novel = NIW(np.full((1, 2), 0.5), np.array([2.0]), np.array([8.0]), 9 * np.eye(2)[None])
    return prior_of(known, novel, truncation, 1.0, gamma)


def rows_of(mean, factor, rng):
    """A row of each normal law, by means [M, p] and factors of precisions [M, p, p]."""
    noise = rng.standard_normal((*mean.shape, 1))
    return mean + np.linalg.solve(factor.transpose(0, 2, 1), noise)[:, :, 0]


def agreeing(direct, chain):
    """Geweke's comparison of statistics [n, d] of independent draws and of a chain."""
    direct, chain = np.array(direct), np.array(chain)
    n = len(chain)
    batches = chain.reshape(60, n // 60, -1).mean(1)
    se = np.sqrt(direct.var(0) / len(direct) + batches.var(0, ddof=1) / 60)
    z = (direct.mean(0) - chain.mean(0)) / se
    assert abs(z).max() < 4, z
    assert (se < 0.2 * np.maximum(direct.std(0), 1e-6)).all()
    return z
