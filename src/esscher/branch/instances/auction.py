"""Winner determination in combinatorial auctions (Leyton-Brown, Pearson and Shoham, 2000)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from esscher.branch.instances.kind import Draw, check_number, check_whole
from esscher.branch.milp import Milp
from esscher.errors import ConfigError

__all__ = ["Auction", "Bid", "auction_milp"]

Floats: TypeAlias = NDArray[np.float64]
Bundle: TypeAlias = tuple[int, ...]


class Bid(NamedTuple):
    """A price for a set of items, ascending."""

    items: Bundle
    price: float


class _Bidder(NamedTuple):
    values: Floats
    interests: Floats
    matches: Floats


@dataclass(frozen=True)
class Auction:
    """Accept bids of the greatest total price, every item sold at most once.

    The "arbitrary" scheme of the test suite CATS, section 4.3: a bidder makes one bid, and up to
    `max_n_sub_bids` others that overlap it and of which only one may win. Items join a bundle by
    the bidder's interest and by how they match the bundle on average; in the code of Gasse et al.
    they are matched with the first two items instead.

    Attributes:
        n_items: at least 2.
        n_bids: at least 1.
        min_value: least resale value of an item.
        max_value: greatest.
        value_deviation: of a bidder's private value of an item, as a share of max_value.
        add_item_prob: of one more item in a bundle. 0.65 as in Ecole; Gasse et al. (2019) take 0.7.
        max_n_sub_bids: substitutes per bidder.
        additivity: a bundle B is worth |B|^(1 + additivity) more than its items; in [-1, 10].
        budget_factor: a substitute costs at most so many times the bidder's first bid.
        resale_factor: its resale value is at least this share of the first bid's.

    Raises:
        ConfigError: if a field is out of range; it is named.
    """

    n_items: int = 100
    n_bids: int = 500
    min_value: float = 1.0
    max_value: float = 100.0
    value_deviation: float = 0.5
    add_item_prob: float = 0.65
    max_n_sub_bids: int = 5
    additivity: float = 0.2
    budget_factor: float = 1.5
    resale_factor: float = 0.5

    def __post_init__(self) -> None:
        check_whole("n_items", self.n_items, 2)
        check_whole("n_bids", self.n_bids, 1)
        check_whole("max_n_sub_bids", self.max_n_sub_bids, 0)
        check_number("additivity", self.additivity, -1.0, 10.0)
        for field in ("min_value", "value_deviation", "budget_factor", "resale_factor"):
            check_number(field, getattr(self, field), 0.0)
        check_number("add_item_prob", self.add_item_prob, 0.0, 1.0)
        check_number("max_value", self.max_value, 0.0)
        if self.max_value < self.min_value:
            raise ConfigError(
                f"max_value must be at least min_value, got {self.max_value:g} < {self.min_value:g}"
            )

    @property
    def name(self) -> str:
        """Such as "auction-100x500": items, bids."""
        return f"auction-{self.n_items}x{self.n_bids}"

    def sample(self, rng: Draw) -> Milp:
        """Draw a program; a row per item with a bid, then a row per bidder with three or more."""
        n = self.n_items
        values = self.min_value + (self.max_value - self.min_value) * rng.random(n)
        upper = np.triu(rng.random((n, n)), k=1)
        matches = upper + upper.T
        matches /= matches.sum(axis=1)
        groups: list[list[Bid]] = []
        left = self.n_bids
        while left > 0:
            bids = self._bids(values, matches, left, rng)
            left -= len(bids)
            groups.append(bids)
        return auction_milp(groups, n, self.name)

    def _bids(self, values: Floats, matches: Floats, most: int, rng: Draw) -> list[Bid]:
        """One bidder's bids, at most `most`; none where the first price would be negative."""
        interests = rng.random(self.n_items)
        private = values + self.max_value * self.value_deviation * (2 * interests - 1)
        bidder = _Bidder(private, interests, matches)
        first = self._first(bidder, rng)
        price = self._price(bidder, first)
        if price < 0:
            return []
        others = [_grown([item], len(first), bidder, rng) for item in first]
        priced = [Bid(items, self._price(bidder, items)) for items in others]
        return self._chosen(Bid(first, price), priced, values, most)

    def _first(self, bidder: _Bidder, rng: Draw) -> Bundle:
        chances = bidder.interests / bidder.interests.sum()
        bundle: Bundle = (int(rng.choice(self.n_items, p=chances)),)
        while rng.random() < self.add_item_prob and len(bundle) < self.n_items:
            bundle = _grown(bundle, len(bundle) + 1, bidder, rng)
        return bundle

    def _price(self, bidder: _Bidder, items: Bundle) -> float:
        return float(bidder.values[list(items)].sum() + len(items) ** (1 + self.additivity))

    def _chosen(self, first: Bid, others: list[Bid], values: Floats, most: int) -> list[Bid]:
        """The first bid and the substitutes that are let in, by descending price."""
        resale = self.resale_factor * values[list(first.items)].sum()
        bids = [first]
        for bid in sorted(others, key=lambda bid: -bid.price):
            if len(bids) >= min(self.max_n_sub_bids + 1, most):
                break
            affordable = 0 <= bid.price <= self.budget_factor * first.price
            known = any(bid.items == other.items for other in bids)
            if affordable and not known and values[list(bid.items)].sum() >= resale:
                bids.append(bid)
        return bids


def auction_milp(groups: Sequence[Sequence[Bid]], n_items: int, name: str) -> Milp:
    """The program of the bids of several bidders.

    Args:
        groups: bids of each bidder. Of three or more, one at most is accepted: they share a dummy
            item. Two need none, for one overlaps the other.
        n_items: items without the dummy ones.
        name: of the program.

    Returns:
        max price'x, a row sum x <= 1 per item that somebody bids for, x binary.
    """
    bids = [bid for group in groups for bid in group]
    cells: list[tuple[int, int]] = [(item, k) for k, bid in enumerate(bids) for item in bid.items]
    dummy, k = n_items, 0
    for group in groups:
        if len(group) > 2:
            cells += [(dummy, k + position) for position in range(len(group))]
            dummy += 1
        k += len(group)
    items, columns = np.array(cells).T
    matrix = sparse.csr_array((np.ones(len(cells)), (items, columns)), shape=(dummy, len(bids)))
    matrix = matrix[np.diff(matrix.indptr) > 0]
    m, n = matrix.shape
    return Milp(
        objective=np.array([bid.price for bid in bids]),
        matrix=matrix,
        row_low=np.full(m, -np.inf),
        row_high=np.ones(m),
        low=np.zeros(n),
        high=np.ones(n),
        integer=np.ones(n, dtype=np.bool_),
        maximise=True,
        name=name,
    )


def _grown(start: Sequence[int], size: int, bidder: _Bidder, rng: Draw) -> Bundle:
    """Add items by the bidder's interest in them and how well they match the bundle."""
    bundle = list(start)
    while len(bundle) < size:
        weights = bidder.interests * bidder.matches[sorted(bundle)].mean(axis=0)
        weights[bundle] = 0.0
        bundle.append(int(rng.choice(len(weights), p=weights / weights.sum())))
    return tuple(sorted(bundle))
