"""What the posterior says of rows it has not seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from esscher.novelty.model import GammaPrior, Posterior, Prior
from esscher.novelty.niw import NIW, Array, student_log_density

__all__ = ["Predicted", "predict", "weights_of"]


class Predicted(NamedTuple):
    """Rows under the posterior predictive.

    Attributes:
        log_density: [M] nats.
        shares: [M, J + T + 1] probability of each component; the last is an atom not yet seen.
    """

    log_density: Array
    shares: Array


def weights_of(prior: Prior, q: Posterior) -> Array:
    """[J + T + 1] expected weights; the last is of atoms that the truncation left out.

    There the last stick is broken like the others, V_T ~ Beta(1 + N_T, γ), instead of taking all.
    """
    j = q.n_known
    share = q.dirichlet / q.dirichlet.sum()
    rest = q.components.kappa[-1] - prior.components.kappa[-1]
    last = [1.0 + rest, _concentration(prior, q)]
    sticks = np.concatenate([q.sticks, [last]])
    v = sticks[:, 0] / sticks.sum(1)
    left = np.append(1.0, np.cumprod(1 - v))
    found: Array = np.concatenate([share[1:], share[0] * left * np.append(v, 1.0)])
    assert len(found) == j + q.truncation + 1
    return found


def _concentration(prior: Prior, q: Posterior) -> float:
    gamma = q.concentration or prior.concentration
    return gamma.shape / gamma.rate if isinstance(gamma, GammaPrior) else gamma


def predict(prior: Prior, q: Posterior, y: Array) -> Predicted:
    """Each row on its own: Student-t laws at their expected weights.

    A row far from everything is closest to the widest law, which is the novelties' prior.

    Args:
        prior: of the fit.
        q: its posterior.
        y: [M, p].
    """
    beyond = prior.components.take([-1])
    scores = student_log_density(NIW.stack(q.components, beyond), y)
    scores += np.log(weights_of(prior, q))
    norm = logsumexp(scores, axis=1, keepdims=True)
    return Predicted(norm[:, 0], np.exp(scores - norm))
