r"""A bound for one backup box that charges for what has to be seen before it is decided.

W(R, β_j) would be earned if box j could be decided with all of R known. Write D(R) for what the
optimum A(R) falls short of that. Opening i before j loses

    l_i = E (min(X_i, Z) - σ_i)⁺,   Z = max(β_j, κ over R without i),

and D(R) = min over i of l_i + E min(D(R \\ i), (W(R \\ i, β_j) - W(R \\ i, X_i))⁺), or what is
lost by stopping: W(R, β_j) - E X_j by taking j, W(R, β_j) - W(R, 0) by switching. A lower bound of
D follows from numbers that do not depend on the order:

- l_i with the boxes of `rest` only in Z, which is less;
- W(R, β) - W(R, x) ≥ δ(x) = ∫_x^β P(max κ over the whole pool ≤ q) dq, so that with a cap d on D
  each opening keeps at least the share s_i = Σ P(x < β) min(1, δ(x) / d) of what follows;
- with h_i = -log P(κ_i ≤ q), 1 - e^-h is concave, so that what is lost by taking j with the pool's
  boxes C still closed is at least t_0 + Σ over C of w_i, by the chord of 1 - e^-h from none to all.

For a given set that is opened, Σ (product of earlier s) l_i is least by rising l_i / (1 - s_i).
In that order, what is still to be lost is a concave function of the Σ w_i of the boxes passed over:

    D_k(ω) = min(l_k + s_k D_{k+1}(ω), D_{k+1}(ω + w_k)),   D at the end = t_0 + ω,

and linear interpolation of a concave function bounds it from below. The cap, and the loss by
switching, end the same recursion with a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esscher.pandora.screening import Backup
from esscher.pandora.weitzman import Grid

__all__ = ["Relaxation", "Shortfall"]

Array = NDArray[np.float64]
KNOTS = 48
LEAST = 1e-16
"""Distribution functions below it are raised to it in logarithms, which only lowers the bound."""


@dataclass(frozen=True)
class Shortfall:
    """What a pool's optimum falls short at least.

    Attributes:
        whole: lower bound of D for the pool.
        without: [m] lower bounds for the pool without its k-th box.
        order: the boxes opened where `whole` is attained, in order: a good one to try.
    """

    whole: float
    without: Array
    order: list[int]


class Relaxation:
    """Lower bounds of D for subsets of the pool of one backup.

    Args:
        grid: of the instance.
        problem: with β_j < σ_j.
        caps: values of d to be tried; the best bound counts.
    """

    def __init__(self, grid: Grid, problem: Backup, caps: Sequence[float]) -> None:
        self.grid, self.problem = grid, problem
        box = grid.boxes[problem.box]
        self.beta = max(box.beta, 0.0)
        self.rest = rest = grid.product(problem.rest)
        whole = rest * grid.product(problem.pool)
        upper = np.clip(grid.points[1:] - self.beta, 0.0, grid.gaps)
        self.area = upper * rest[:-1]
        self.start = grid.at(rest, self.beta) - box.mean
        below = np.append(np.cumsum(((grid.gaps - upper) * whole[:-1])[::-1])[::-1], 0.0)
        self.switch = float(below[0])
        self.caps = [min(d, self.switch) for d in caps if d > 0] or [self.switch]
        self.place = {i: k for k, i in enumerate(problem.pool)}
        self.loss = np.array([self._loss(i) for i in problem.pool])
        self.share = np.array([self._shares(i, below) for i in problem.pool])
        rows = np.array([grid.row(i)[:-1] for i in problem.pool])
        self.depth = -np.log(np.maximum(rows, LEAST)).reshape(len(problem.pool), len(grid.gaps))

    def _loss(self, i: int) -> float:
        """l_i, where (min(x, Z) - σ)⁺ is, in expectation over Z, ∫_σ^x P(Z > q) dq for x > σ."""
        grid, box = self.grid, self.grid.boxes[i]
        inner = np.clip(self.beta - grid.points[:-1], 0.0, grid.gaps)
        above = inner + (grid.gaps - inner) * (1.0 - self.rest[:-1])
        reach = np.append(0.0, np.cumsum(above))
        low = reach[int(np.searchsorted(grid.points, max(box.sigma, 0.0)))]
        return float(box.probs @ np.maximum(reach[box.columns] - low, 0.0))

    def _shares(self, i: int, below: Array) -> Array:
        """[caps] s_i."""
        box = self.grid.boxes[i]
        kept = below[box.columns]
        return np.array([box.probs @ np.minimum(kept / d, 1.0) for d in self.caps])

    def shortfall(self, pool: Sequence[int]) -> Shortfall:
        """Lower bounds of D for a pool and for it without each of its boxes.

        The chord of the pool serves the smaller ones as well.
        """
        m = len(pool)
        places = np.array([self.place[i] for i in pool], dtype=np.int64)
        depth = self.depth[places]
        total = depth.sum(0)
        chord = np.divide(-np.expm1(-total), total, out=np.ones_like(total), where=total > 0)
        weight = depth @ (self.area * chord)
        best, order = np.full(m + 1, -np.inf), list(pool)
        for c, cap in enumerate(self.caps):
            found, taken = self._recursion(self.loss[places], self.share[places, c], weight, cap)
            if found[m] > best[m]:
                order = [pool[k] for k in taken]
            best = np.maximum(best, found)
        best = np.maximum(best, 0.0)
        return Shortfall(float(best[m]), best[:m], order)

    def _recursion(
        self, loss: Array, share: Array, weight: Array, cap: float
    ) -> tuple[Array, list[int]]:
        """([m + 1] bounds, without each box and with all; places taken with all)."""
        m = len(loss)
        ratio = np.divide(loss, 1.0 - share, out=np.full(m, np.inf), where=share < 1)
        order = np.argsort(ratio, kind="stable")
        knots = np.linspace(0.0, float(weight.sum()), KNOTS)
        spacing = knots[1] if knots[1] > 0 else 1.0
        value = np.tile(self.start + knots, (m + 1, 1))
        capped = np.full(m + 1, cap)
        passes: list[Array] = []
        columns = np.arange(KNOTS)
        for k in order[::-1]:
            at = np.minimum(columns + weight[k] / spacing, KNOTS - 1)
            left = np.minimum(at.astype(np.int64), KNOTS - 2)
            passed = value[:, left] + (at - left) * (value[:, left + 1] - value[:, left])
            opened = loss[k] + share[k] * value
            passes.append(opened[m] <= passed[m])
            kept, kept_cap = value[k].copy(), capped[k]
            value = np.minimum(opened, passed)
            capped = np.minimum(capped, loss[k] + share[k] * capped)
            value[k], capped[k] = kept, kept_cap
        taken, passed_by = [], 0.0
        for k, better in zip(order, passes[::-1], strict=True):
            if better[min(round(passed_by / spacing), KNOTS - 1)]:
                taken.append(int(k))
            else:
                passed_by += float(weight[k])
        return np.minimum(value[:, 0], capped), taken
