"""A fit as nested plain values for a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esscher.novelty.cavi import Fit
from esscher.novelty.model import GammaPrior, Posterior
from esscher.novelty.niw import NIW

__all__ = ["fit_of", "tree_of"]


def tree_of(fit: Fit) -> dict[str, Any]:
    """What `kit.runs.tree.flatten_tree` takes."""
    q, law = fit.posterior, fit.posterior.components
    return {
        "laws": {"mean": law.mean, "kappa": law.kappa, "dof": law.dof, "scale": law.scale},
        "n_known": q.n_known,
        "dirichlet": q.dirichlet,
        "sticks": q.sticks,
        "concentration": None if q.concentration is None else list(map(float, q.concentration)),
        "phi": fit.phi,
        "path": list(map(float, fit.path)),
        "converged": bool(fit.converged),
    }


def fit_of(tree: Mapping[str, Any]) -> Fit:
    """The fit that `tree_of` was given."""
    gamma = tree["concentration"]
    q = Posterior(
        NIW(**tree["laws"]),
        tree["n_known"],
        tree["dirichlet"],
        tree["sticks"],
        None if gamma is None else GammaPrior(*gamma),
    )
    return Fit(q, tree["phi"], tree["path"], tree["converged"])
