"""Auctions: bids by hand, what every draw has, and one that others' procedure makes."""

import numpy as np
import pytest

from esscher.branch.instances.auction import Auction, Bid, auction_milp
from esscher.errors import ConfigError
from tests.branch.brute import enumerate_optimum


def test_the_program_of_bids_by_hand():
    """Three bids of one bidder get a dummy item, two do not; item 2 has no bid and no row."""
    groups = [
        [Bid((0, 1), 10.0), Bid((1,), 4.0), Bid((0,), 5.0)],
        [],
        [Bid((1, 3), 7.0), Bid((3,), 2.0)],
        [Bid((0,), 1.0), Bid((0, 3), 3.0), Bid((0, 1), 2.0)],
    ]
    milp = auction_milp(groups, 4, "by hand")
    expected = [
        [1, 0, 1, 0, 0, 1, 1, 1],
        [1, 1, 0, 1, 0, 0, 0, 1],
        [0, 0, 0, 1, 1, 0, 1, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 1],
    ]
    np.testing.assert_array_equal(milp.matrix.toarray(), expected)
    np.testing.assert_array_equal(milp.objective, [10, 4, 5, 7, 2, 1, 3, 2])
    assert milp.maximise
    assert (milp.row_high == 1).all()
    assert np.isneginf(milp.row_low).all()
    assert enumerate_optimum(milp).value == 12.0


def test_the_dummy_item_is_what_keeps_a_bidder_from_winning_twice():
    bids = [Bid((0, 1), 5.0), Bid((0,), 4.0), Bid((1,), 4.0)]
    assert enumerate_optimum(auction_milp([bids], 2, "one bidder")).value == 5.0
    alone = [[bid] for bid in bids]
    assert enumerate_optimum(auction_milp(alone, 2, "three bidders")).value == 8.0


@pytest.mark.parametrize("size", [(10, 50), (30, 101), (2, 5)])
def test_what_every_draw_has(size):
    kind = Auction(*size)
    for seed in range(5):
        milp = kind.sample(np.random.default_rng(seed))
        assert milp.matrix.shape[1] == size[1]
        assert (milp.objective >= 0).all()
        assert milp.integer.all()
        assert np.unique(milp.matrix.data).tolist() == [1.0]
        assert milp.matrix.toarray().sum(axis=1).min() >= 1
        # Beyond the items there are bidders, of three to six bids that stand together.
        for row in milp.matrix.toarray()[size[0] :]:
            own = np.flatnonzero(row)
            assert 3 <= len(own) <= 6
            assert own[-1] - own[0] == len(own) - 1


def test_an_auction_that_others_procedure_makes():
    """Gasse et al.'s, once the mask of a bundle selects the bundle and not rows 0 and 1."""
    milp = Auction(10, 50, add_item_prob=0.7).sample(np.random.RandomState(0))
    assert milp.matrix.shape == (18, 50)
    assert milp.matrix.nnz == 287
    np.testing.assert_allclose(
        milp.objective[:3], [789.1972383550576, 306.1892725299862, 353.4002355093884], rtol=1e-12
    )
    assert milp.objective.sum() == pytest.approx(17654.012692564604, rel=1e-12)
    bundles = [milp.matrix.toarray()[:10, k].nonzero()[0].tolist() for k in range(3)]
    assert bundles == [list(range(10)), [0, 2, 4, 5, 7, 9], [1, 2, 6, 7, 8, 9]]


def bundle_sizes(n_items, n_bids, add_item_prob):
    kind = Auction(n_items, n_bids, add_item_prob=add_item_prob, max_n_sub_bids=0)
    return kind.sample(np.random.default_rng(0)).matrix.toarray().sum(axis=0)


def test_parameters_do_what_they_say():
    assert (bundle_sizes(6, 20, 0.0) == 1).all()
    assert (bundle_sizes(6, 20, 1.0) == 6).all()
    # A geometric law: 1 / (1 - p) items on average, less the little that 20 items cut off.
    assert bundle_sizes(20, 200, 0.65).mean() == pytest.approx(1 / 0.35, rel=0.15)


def test_no_substitutes_no_dummy_items():
    milp = Auction(8, 60, max_n_sub_bids=0).sample(np.random.default_rng(0))
    assert milp.matrix.shape[0] <= 8
    assert Auction(8, 60).sample(np.random.default_rng(0)).matrix.shape[0] > 8


def test_substitutes_keep_within_the_budget_and_the_resale_value():
    """One bidder and flat values: the price is the items' and |B|^1.2."""
    flat = {"min_value": 10.0, "max_value": 10.0, "value_deviation": 0.0}
    prices = Auction(6, 40, **flat).sample(np.random.default_rng(1))
    sizes = prices.matrix.toarray()[:6].sum(axis=0)
    np.testing.assert_allclose(prices.objective, 10 * sizes + sizes**1.2)
    none = Auction(6, 40, budget_factor=0.5, **flat).sample(np.random.default_rng(1))
    assert none.matrix.shape[0] <= 6, "no substitute can cost half of the first bid"
    none = Auction(6, 40, resale_factor=1.1, **flat).sample(np.random.default_rng(1))
    assert none.matrix.shape[0] <= 6, "no substitute of the same size can resell for more"


def test_negative_first_bids_are_dropped():
    """Where private values spread widely, no bid of a negative price is left."""
    milp = Auction(5, 60, min_value=0, max_value=100, value_deviation=5.0).sample(
        np.random.default_rng(0)
    )
    assert milp.matrix.shape[1] == 60
    assert (milp.objective >= 0).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_items", 1), ("n_items", 2.0), ("n_bids", 0), ("max_n_sub_bids", -1),
        ("min_value", -1.0), ("max_value", 0.5), ("value_deviation", -0.1), ("add_item_prob", 1.1),
        ("additivity", float("inf")), ("additivity", -1.5), ("budget_factor", float("nan")),
        ("resale_factor", None),
    ],
)  # fmt: skip
def test_impossible_parameters_are_named(field, value):
    with pytest.raises(ConfigError, match=field):
        Auction(**{field: value})
