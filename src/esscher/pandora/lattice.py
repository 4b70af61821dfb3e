r"""Values of all subsets of the boxes that may be opened before the rest is decided.

With the box j as the only one that may be taken unseen and `fixed` boxes that stay closed in
phase 1 (j among them),

    A(T) = max(E X_j, W(R, 0), max over i in T of -c_i + E max(A(T \\ i), W(R \\ i, X_i))),

where R is the fixed boxes and T. Boxes of one type are interchangeable, so T is a vector of
counts. A state's counts are split into a low and a high part. The high parts are sorted by their
sum; for one layer of them and one low part, all is done on contiguous vectors: the products of
distribution functions are a table of the high parts times one number per column, W is a running
sum, and a state pushes its value to those with one box more, which come later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esscher.pandora.weitzman import Grid

__all__ = ["Lattice", "Member", "Solved"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
HIGH_BYTES = 2**25
"""The table of the high parts takes about this much."""
HIGH_STATES = 2**14
PIECE_BYTES = 2**19
"""W of one piece of a layer: what stays in the cache."""


@dataclass(frozen=True)
class Member:
    """Boxes of one type that may be opened in phase 1.

    Attributes:
        places: in the grid, in the order of the instance.
        cost: of opening one.
        probs: [k] of the values above the outside option.
        rows: [k] where W at these values is found: in the table of the state, or, counted on
            from its end, in the list of values that are above every σ of the members.
        cdf: [K] P(κ ≤ ·) on the cells of the lattice.
    """

    places: tuple[int, ...]
    cost: float
    probs: Array
    rows: Index
    cdf: Array


class Lattice:
    """The subsets of some boxes, each with the fixed ones.

    Attributes:
        claim: E X_j - base.
        members: types of boxes.
        weights: [K] ∫ P(max κ of the fixed boxes ≤ q) dq over each cell.
        beyond: [B] W at values above every σ of the members, the last one first a cell ends at.
    """

    def __init__(
        self, grid: Grid, fixed: Sequence[int], types: Sequence[Sequence[int]], claim: float
    ) -> None:
        self.claim = claim
        self.tie = grid.tie
        product = grid.product(fixed)
        search = grid.search(product)
        top = max((grid.boxes[t[0]].sigma for t in types), default=0.0)
        end = int(np.searchsorted(grid.points, max(top, 0.0)))
        used = [np.zeros(1, dtype=np.int64)]
        for t in types:
            used += [grid.boxes[t[0]].columns, grid.boxes[t[0]].low]
        columns = np.unique(np.concatenate(used))
        active = columns[columns < end]
        starts = np.append(active, end)
        area = np.cumsum(np.append(0.0, grid.gaps * product[:-1]))
        self.weights: Array = np.diff(area[starts])
        tail = np.append(end, columns[columns > end])
        self.beyond: Array = search[tail]
        place = np.zeros(len(grid), dtype=np.int64)
        place[active] = np.arange(len(active))
        place[tail] = len(active) + np.arange(len(tail))
        self.members = [self._member(grid, t, place, active) for t in types]
        self.shape = tuple(len(t) + 1 for t in types)

    def _member(self, grid: Grid, t: Sequence[int], place: Index, active: Index) -> Member:
        box = grid.boxes[t[0]]
        kept = box.columns > 0
        return Member(
            tuple(t),
            box.cost,
            np.ascontiguousarray(box.probs[kept]),
            place[box.columns[kept]],
            grid.row(t[0])[active],
        )

    @property
    def states(self) -> int:
        """How many vectors of counts there are."""
        found = 1
        for size in self.shape:
            found *= size
        return found

    def split(self) -> int:
        """How many of the types, from the last, make up the high part."""
        states, k = 1, 0
        limit = min(HIGH_STATES, max(HIGH_BYTES // (8 * max(len(self.weights), 1)), 1))
        while k < len(self.shape) and states * self.shape[-1 - k] <= limit:
            states *= self.shape[-1 - k]
            k += 1
        return k

    def solve(self) -> Solved:
        """A of every state."""
        k = self.split()
        low, high = self.members[: len(self.members) - k], self.members[len(self.members) - k :]
        return Solved(self, _Side(low, len(self.weights)), _Side(high, len(self.weights)))


class _Side:
    """All counts of some types, sorted by their sum, with products of distribution functions."""

    def __init__(self, members: Sequence[Member], cells: int) -> None:
        self.members = list(members)
        sizes = [len(m.places) + 1 for m in members]
        total = int(np.prod(sizes, dtype=np.int64))
        self.strides = [int(np.prod(sizes[:g], dtype=np.int64)) for g in range(len(sizes))]
        code = np.arange(total)
        self.digits: Index = np.array(
            [code // s % z for s, z in zip(self.strides, sizes, strict=True)], dtype=np.int64
        ).reshape(len(sizes), total)
        sums = self.digits.sum(0)
        self.order: Index = np.argsort(sums, kind="stable")
        self.position: Index = np.empty(total, dtype=np.int64)
        self.position[self.order] = code
        self.layers = np.searchsorted(sums[self.order], np.arange(int(sums.max()) + 2))
        cdf = np.ones((cells, 1))
        for m, z in zip(members, sizes, strict=True):
            powers = np.cumprod(np.repeat(m.cdf[:, None], z - 1, axis=1), axis=1)
            powers = np.concatenate([np.ones((cells, 1)), powers], axis=1)
            cdf = (powers[:, :, None] * cdf[:, None, :]).reshape(cells, z * cdf.shape[1])
        self.cdf: Array = np.ascontiguousarray(cdf[:, self.order])
        self.sizes = sizes

    def pushes(self, g: int, start: int, stop: int) -> tuple[Index, Index]:
        """(places within a piece, places after one more box of type g)."""
        codes = self.order[start:stop]
        open_ = np.flatnonzero(self.digits[g, codes] < self.sizes[g] - 1)
        return open_, self.position[codes[open_] + self.strides[g]]


class Solved:
    """A of all states of a lattice, and the order that reaches it.

    Attributes:
        value: [low states, high states] A, counted from the base of the grid.
    """

    def __init__(self, lattice: Lattice, low: _Side, high: _Side) -> None:
        self.lattice, self.low, self.high = lattice, low, high
        self.value: Array = np.full((low.cdf.shape[1], high.cdf.shape[1]), lattice.claim)
        width = max(PIECE_BYTES // (8 * max(len(lattice.weights), 1)), 256)
        most = int(np.diff(high.layers).max())
        self._table = np.empty((len(lattice.weights) + len(lattice.beyond), min(width, most)))
        self._table[len(lattice.weights) :] = lattice.beyond[:, None]
        longest = max((len(m.rows) for m in lattice.members), default=0)
        self._excess = np.empty((max(longest, 1), min(width, most)))
        for first, last in zip(high.layers[:-1], high.layers[1:], strict=True):
            for start in range(int(first), int(last), width):
                self._piece(start, min(start + width, int(last)))

    def _piece(self, start: int, stop: int) -> None:
        """All low parts with the high parts of one piece of a layer."""
        low, high, size = self.low, self.high, stop - start
        moves = [high.pushes(g, start, stop) for g in range(len(high.members))]
        for place in range(low.cdf.shape[1]):
            code = int(low.order[place])
            table = self._search(place, start, stop)
            value = self.value[place, start:stop]
            np.maximum(value, table[0], out=value)
            for g, member in enumerate(low.members):
                if low.digits[g, code] < low.sizes[g] - 1:
                    later = low.position[code + low.strides[g]]
                    target = self.value[later, start:stop]
                    np.maximum(target, self._opened(member, table, value, size), out=target)
            for member, (source, target_) in zip(high.members, moves, strict=True):
                if len(source):
                    found = self._opened(member, table, value, size)[source]
                    row = self.value[place]
                    row[target_] = np.maximum(row[target_], found)

    def _search(self, place: int, start: int, stop: int) -> Array:
        """[K + B, size] W of the states with this low part."""
        n = len(self.lattice.weights)
        table = self._table[:, : stop - start]
        scale = self.lattice.weights * self.low.cdf[:, place]
        np.multiply(self.high.cdf[:, start:stop], scale[:, None], out=table[:n])
        after = table[n]
        for k in range(n - 1, -1, -1):
            np.subtract(after, table[k], out=table[k])
            after = table[k]
        return table

    def _opened(self, member: Member, table: Array, value: Array, size: int) -> Array:
        """[size] -c + E max(A, W(R, X)) = A - c + E (W(R, X) - A)⁺, for R without the box.

        At values up to the outside option W(R, X) = W(R, 0) ≤ A, so they are left out.
        """
        excess = self._excess[: len(member.rows), :size]
        for k, row in enumerate(member.rows):
            np.subtract(table[row], value, out=excess[k])
        np.maximum(excess, 0.0, out=excess)
        found: Array = member.probs @ excess
        found += value
        found -= member.cost
        return found

    def at(self, counts: Sequence[int]) -> float:
        """A of one state."""
        places = self._places(counts)
        return float(self.value[places])

    def best(self) -> float:
        """A of the state with all boxes closed."""
        return self.at([len(m.places) for m in self.lattice.members])

    def order(self) -> tuple[list[int], bool]:
        """(places of the boxes opened one by one, whether the backup is taken at the end).

        Ties go to stopping, then to the first type.
        """
        left = [len(m.places) for m in self.lattice.members]
        found: list[int] = []
        while True:
            here = self.at(left)
            low, high = self._places(left)
            search = float(self._search(low, high, high + 1)[0, 0])
            if search >= here - self.lattice.tie:
                return found, False
            if self.lattice.claim >= here - self.lattice.tie:
                return found, True
            g = self._next(left)
            left[g] -= 1
            places = self.lattice.members[g].places
            found.append(places[len(places) - 1 - left[g]])

    def _next(self, left: list[int]) -> int:
        """The type whose opening is worth most in this state."""
        worth = np.full(len(left), -np.inf)
        for g, member in enumerate(self.lattice.members):
            if left[g]:
                left[g] -= 1
                low, high = self._places(left)
                table = self._search(low, high, high + 1)
                value = self.value[low, high : high + 1]
                worth[g] = self._opened(member, table, value, 1)[0]
                left[g] += 1
        return int(np.flatnonzero(worth >= worth.max() - self.lattice.tie)[0])

    def _places(self, counts: Sequence[int]) -> tuple[int, int]:
        n = len(self.low.members)
        low = sum(c * s for c, s in zip(counts[:n], self.low.strides, strict=True))
        high = sum(c * s for c, s in zip(counts[n:], self.high.strides, strict=True))
        return int(self.low.position[low]), int(self.high.position[high])
