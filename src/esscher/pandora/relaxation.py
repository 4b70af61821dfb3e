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
By the chord again, l_i is higher by at least l_ik for every box k of the pool that is closed when i
is opened. Let i come before k in that best order. If both are opened and i is first, l_ik is
lost; if k is first, l_ki, and by exchanging neighbours until the order is the best one, at least
l_k (1 - s_i) - l_i (1 - s_k). Either is lost where at most the others have been opened. If k is
passed over, i loses l_ik. So each i that is opened loses, by what reaches the end, at least

    u_i = Σ over k after i of min(l_ik / s_i, min(l_ik, l_ki + exchange) / (s_i s_k)).

What is still to be lost is a concave function of the Σ w_i of the boxes passed over and the Σ u_i
of those opened:

    D_k(ω) = min(l_k + s_k D_{k+1}(ω + u_k), D_{k+1}(ω + w_k)),   D at the end = t_0 + ω,

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
KNOTS = 32
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
        caps: values of d to be tried on the first pool; the best one is used from then on.
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
        self.used = list(range(len(self.caps)))
        self.place = {i: k for k, i in enumerate(problem.pool)}
        self.loss = np.array([self._loss(i) for i in problem.pool])
        self.share = np.array([self._shares(i, below) for i in problem.pool])
        self.cover = np.array([self._cover(i) for i in problem.pool]).reshape(-1, len(grid.gaps))
        rows: Array = np.array([grid.row(i)[:-1] for i in problem.pool], dtype=float)
        shape = (len(problem.pool), len(grid.gaps))
        self.depth: Array = -np.log(np.maximum(rows.reshape(shape), LEAST))

    def _loss(self, i: int) -> float:
        """l_i, where (min(x, Z) - σ)⁺ is, in expectation over Z, ∫_σ^x P(Z > q) dq for x > σ."""
        grid, box = self.grid, self.grid.boxes[i]
        inner = np.clip(self.beta - grid.points[:-1], 0.0, grid.gaps)
        above = inner + (grid.gaps - inner) * (1.0 - self.rest[:-1])
        reach = np.append(0.0, np.cumsum(above))
        low = reach[int(np.searchsorted(grid.points, max(box.sigma, 0.0)))]
        return float(box.probs @ np.maximum(reach[box.columns] - low, 0.0))

    def _cover(self, i: int) -> Array:
        """[K - 1] P(X_i > q) from σ_i on, in the cells."""
        grid, box = self.grid, self.grid.boxes[i]
        mass = np.bincount(box.columns, box.probs, len(grid)).astype(float)
        found = 1.0 - np.cumsum(mass)[:-1]
        return np.where(grid.points[:-1] >= box.sigma, np.maximum(found, 0.0), 0.0)

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
        cross = self.cover[places] @ (self.area * chord * depth).T
        best, order, leader = np.full(m + 1, -np.inf), list(pool), self.used[0]
        for c in self.used:
            cap = self.caps[c]
            loss, share = self.loss[places], self.share[places, c]
            extra = _conflicts(loss, share, cross)
            found, taken = self._recursion(loss, share, weight, extra, cap)
            if found[m] > best[m]:
                order, leader = [pool[k] for k in taken], c
            best = np.maximum(best, found)
        self.used = [leader]
        best = np.maximum(best, 0.0)
        return Shortfall(float(best[m]), best[:m], order)

    def _recursion(
        self, loss: Array, share: Array, weight: Array, extra: Array, cap: float
    ) -> tuple[Array, list[int]]:
        """([m + 1] bounds, without each box and with all; places taken with all)."""
        m = len(loss)
        order = np.argsort(_ratio(loss, share), kind="stable")
        total = float(np.maximum(weight, extra[m]).sum())
        spacing = total / (KNOTS - 1) if total > 0 else 1.0
        value = np.tile(self.start + spacing * np.arange(KNOTS), (m + 1, 1))
        capped = np.full(m + 1, cap)
        better: list[Array] = []
        for k in order[::-1]:
            passed = _moved(value, weight[k] / spacing)
            opened = loss[k] + share[k] * _shifted(value, extra[:, k] / spacing)
            better.append(opened[m] <= passed[m])
            kept, kept_cap = value[k].copy(), capped[k]
            value = np.minimum(opened, passed)
            capped = np.minimum(capped, loss[k] + share[k] * capped)
            value[k], capped[k] = kept, kept_cap
        taken, at = [], 0.0
        for k, opens in zip(order, better[::-1], strict=True):
            take = bool(opens[min(round(at / spacing), KNOTS - 1)])
            at += float(extra[m, k] if take else weight[k])
            if take:
                taken.append(int(k))
        return np.minimum(value[:, 0], capped), taken


def _ratio(loss: Array, share: Array) -> Array:
    """Ratios l / (1 - s), by which opened boxes are best sorted."""
    found: Array = np.divide(loss, 1.0 - share, out=np.full(len(loss), np.inf), where=share < 1)
    return found


def _conflicts(loss: Array, share: Array, cross: Array) -> Array:
    """[m + 1, m] u_i for the pool without each box, and for the pool."""
    m = len(loss)
    rank = np.argsort(np.argsort(_ratio(loss, share), kind="stable"))
    swap = loss[None, :] * (1.0 - share)[:, None] - loss[:, None] * (1.0 - share)[None, :]
    first = np.maximum(share, LEAST)
    both = np.minimum(cross, np.maximum(swap, 0.0) + cross.T) / first[:, None] / first[None, :]
    pair = np.minimum(both, cross / first[:, None])
    pair = np.where(rank[:, None] < rank[None, :], pair, 0.0)
    extra = np.tile(pair.sum(1), (m + 1, 1))
    extra[:m] -= pair.T
    found: Array = np.maximum(extra, 0.0)
    return found


def _moved(value: Array, by: float) -> Array:
    """The same for all rows by the same number."""
    at = np.minimum(np.arange(KNOTS) + by, KNOTS - 1)
    left = np.minimum(at.astype(np.int64), KNOTS - 2)
    low = value[:, left]
    found: Array = low + (at - left) * (value[:, left + 1] - low)
    return found


def _shifted(value: Array, by: Array) -> Array:
    """Rows of functions on the knots, moved left by numbers of knots; constant at the end."""
    at = np.minimum(np.arange(KNOTS)[None, :] + by[:, None], KNOTS - 1)
    left = np.minimum(at.astype(np.int64), KNOTS - 2)
    low = np.take_along_axis(value, left, 1)
    found: Array = low + (at - left) * (np.take_along_axis(value, left + 1, 1) - low)
    return found
