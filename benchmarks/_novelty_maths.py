"""The bound on problems at random: it never falls, both forms agree, and no evidence is below."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from _harness import Numbers, Spread, single
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
from esscher.novelty.model import Posterior
from esscher.novelty.niw import NIW, log_evidence, student_log_density


def maths(quick: bool) -> Numbers:
    return _half_steps() | _one_component() | _enumerated(6 if quick else 50) | _stationary()


def _laws(rng: np.random.Generator, k: int, p: int, trust: float = 0.0) -> NIW:
    root = rng.standard_normal((k, p, p + 2))
    return NIW(
        2 * rng.standard_normal((k, p)),
        rng.uniform(0.1, 3, k) + trust,
        p + 1 + rng.uniform(0.1, 5, k) + trust,
        root @ root.transpose(0, 2, 1) + 0.1 * np.eye(p),
    )


def _problem(seed: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    p, j, t = int(rng.integers(1, 9)), int(rng.integers(1, 5)), int(rng.integers(1, 11))
    prior = prior_of(_laws(rng, j, p, 20.0), _laws(rng, 1, p), t, rng.uniform(0.1, 2), 2.0)
    y = 2 * rng.standard_normal((60, p))
    return prior, y, rng.dirichlet(np.ones(j + t), size=60)


def _half_steps() -> Numbers:
    """Each half step of ten sweeps on 100 problems, in full and collapsed form."""
    fall, apart = -np.inf, 0.0
    for seed in range(100):
        prior, y, phi = _problem(seed)
        last, q = -np.inf, None
        for _ in range(10):
            q = globals_of(prior, y, phi, q)
            full = bound(prior, q, y, phi)
            apart = max(apart, abs(full - collapsed_bound(prior, q, phi)) / abs(full))
            fall = max(fall, (last - full) / abs(full))
            phi, _ = responsibilities(q, y)
            last = bound(prior, q, y, phi)
            fall = max(fall, (full - last) / abs(full))
    return {
        "100 problems: largest fall of a half step, relative": single(max(fall, 0.0)),
        "100 problems: full - collapsed bound, relative": single(apart),
    }


def _one_component() -> Numbers:
    """The evidence of one component against the product of predictives, row after row."""
    worst = 0.0
    for p in (1, 2, 5):
        rng = np.random.default_rng(p)
        law, y = _laws(rng, 1, p), rng.standard_normal((9, p))
        total, so_far = 0.0, law
        for row in y:
            total += float(student_log_density(so_far, row[None])[0, 0])
            so_far = component_posterior(so_far, row[None], np.ones((1, 1)), np.ones(1))
        found = float(log_evidence(so_far, law, np.array([9.0]))[0])
        worst = max(worst, abs(found / total - 1))
    return {"one component: bound - log evidence, relative": single(worst)}


def _log_joint(prior: Any, y: Any, labels: tuple[int, ...]) -> float:
    """log p(y, ξ): Dirichlet and stick integrals, and each component's evidence."""
    phi = np.eye(3)[list(labels)]
    counts, alpha = phi.sum(0), prior.dirichlet
    groups = np.append(counts[1:].sum(), counts[:1])
    found = gammaln(alpha.sum()) - gammaln(alpha.sum() + len(y))
    found += (gammaln(alpha + groups) - gammaln(alpha)).sum()
    gamma = prior.concentration
    found += betaln(1 + counts[1], gamma + counts[2]) - betaln(1, gamma)
    q = component_posterior(prior.components, y, phi, counts)
    return float(found + log_evidence(q, prior.components, counts).sum())


def _enumerated(seeds: int) -> Numbers:
    """Seven rows, one class, two atoms: the evidence of all 3⁷ assignments over the bound."""
    gaps = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        p = 1 + seed % 3
        prior = prior_of(_laws(rng, 1, p, 20.0), _laws(rng, 1, p), 2, 0.5, 1.5)
        y = 2 * rng.standard_normal((7, p))
        every = itertools.product(range(3), repeat=7)
        log_z = logsumexp([_log_joint(prior, y, labels) for labels in every])
        starts = [rng.dirichlet(np.ones(3), size=7) for _ in range(16)]
        gaps.append(log_z - max(ascend(prior, y, phi, tol=1e-10).elbo for phi in starts))
    return {
        "7 rows: least gap to the evidence, nats": single(min(gaps)),
        "7 rows: largest gap to the evidence, nats": Spread(max(gaps), min(gaps), max(gaps)),
    }


def _stationary() -> Numbers:
    """The largest rise of the bound by a change of 10⁻⁴ of any number at a fixed point."""
    prior, y, phi = _problem(1)
    fit = ascend(prior, y, phi, max_iter=5000, tol=1e-13)
    q, c = fit.posterior, fit.posterior.components
    best, rise = bound(prior, q, y, fit.phi), -np.inf
    parts = {"mean": c.mean, "kappa": c.kappa, "dof": c.dof, "scale": c.scale}
    parts |= {"dirichlet": q.dirichlet, "sticks": q.sticks}
    for part, array in parts.items():
        for where in np.ndindex(array.shape):
            for by in (1e-4, -1e-4):
                changed = array.copy()
                changed[where] += by
                if part == "scale":
                    changed[(where[0], where[2], where[1])] = changed[where]
                new = parts | {part: changed}
                law = NIW(new["mean"], new["kappa"], new["dof"], new["scale"])
                moved = Posterior(law, q.n_known, new["dirichlet"], new["sticks"])
                rise = max(rise, bound(prior, moved, y, fit.phi) - best)
    return {"a fixed point: largest rise near it, nats": single(rise)}
