"""Whether wanted means can be reached by weighting draws, and what to say when they cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from scipy.optimize import linprog
from torch import Tensor

from esscher.errors import InfeasibleMomentsError

__all__ = ["check_feasible", "hard_conditions", "infeasible"]


def hard_conditions(
    phi: Tensor, mu: Tensor, log_w: Tensor, names: Sequence[str]
) -> dict[int, float]:
    """Features whose mean leaves them a single value: {position: value}.

    Raises:
        InfeasibleMomentsError: if a mean is outside the observed range of its feature.
    """
    seen = phi[log_w > -torch.inf]
    low, high = seen.amin(0), seen.amax(0)
    if bool(((mu < low) | (mu > high)).any()):
        raise infeasible("a mean is outside the observed range", seen, mu, names)
    hard = {}
    for k in range(len(names)):
        binary = bool(((seen[:, k] == 0.0) | (seen[:, k] == 1.0)).all())
        if (binary or bool(low[k] == high[k])) and float(mu[k]) in (float(low[k]), float(high[k])):
            hard[k] = float(mu[k])
    return hard


def check_feasible(
    phi: Tensor, mu: Tensor, soft: Sequence[int], hard: Mapping[int, float], names: Sequence[str]
) -> None:
    """Check by linear programming that mu is in the convex hull of the draws.

    Raises:
        InfeasibleMomentsError: if it is not, or no draw meets the hard conditions.
    """
    if len(phi) == 0:
        wanted = ", ".join(f"'{names[k]}' = {v:g}" for k, v in hard.items())
        raise InfeasibleMomentsError(f"no draw has {wanted} at once; drop one, or draw more")
    if not soft:
        return
    low, high = phi[:, soft].amin(0), phi[:, soft].amax(0)
    scaled = torch.unique((phi[:, soft] - mu[soft]) / (high - low).clamp(min=1e-300), dim=0)
    rows = torch.cat([scaled, torch.ones(len(scaled), 1, dtype=torch.float64)], 1).T
    total = [0.0] * len(soft) + [1.0]
    found = linprog([0.0] * len(scaled), A_eq=rows.numpy(), b_eq=total, method="highs")
    if found.status != 0:
        given = f" given {', '.join(names[k] for k in hard)}" if hard else ""
        raise infeasible(f"no weights on the draws have these means{given}", phi, mu, names)


def infeasible(
    reason: str, phi: Tensor, mu: Tensor, names: Sequence[str]
) -> InfeasibleMomentsError:
    """The error that lists wanted mean and observed range of every feature."""
    low, high = phi.amin(0).tolist(), phi.amax(0).tolist()
    rows = [
        f"'{name}' wanted {m:g}, observed " + (f"always {a:g}" if a == b else f"{a:g} to {b:g}")
        for name, m, a, b in zip(names or range(len(low)), mu.tolist(), low, high, strict=True)
    ]
    return InfeasibleMomentsError(
        f"{reason}: {'; '.join(rows)} in {len(phi)} draws; change the means, use a Condition, "
        "or draw from a proposal that shows the missing values"
    )
