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
