import numpy as np
import pytest
import torch

from esscher.core import Table, contexts_of, join, take
from esscher.errors import NumericsError, ShapeError
from tests.worlds import random_law, seeded, toy_prior


class Rows:
    def __init__(self, rows):
        self.rows = rows

    def take(self, index):
        return Rows([self.rows[i] for i in index.tolist()])

    @classmethod
    def join(cls, parts):
        return cls([row for part in parts for row in part.rows])


def test_toy_prior_is_normalised():
    assert len(toy_prior()) == 364
    assert abs(toy_prior().log_z) < 1e-12


def test_sampling_follows_the_probabilities():
    law = Table(random_law(5, 0))
    x = law.sample(40_000, rng=seeded(1)).x
    counts = torch.bincount(x, minlength=5).double()
    chi2 = ((counts - 40_000 * law.probs) ** 2 / (40_000 * law.probs)).sum()
    assert chi2 < 18.5  # 99.9 % of chi2(4)


def test_kl_by_hand():
    a, b = Table(torch.tensor([0.75, 0.25]).log()), Table(torch.tensor([0.5, 0.5]).log())
    assert a.kl(b) == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5), abs=1e-7)
    assert a.kl(a) == 0.0
    assert a.kl(Table(torch.tensor([0.0, -torch.inf]))) == torch.inf
    assert Table(torch.tensor([0.0, -torch.inf])).kl(b) == pytest.approx(np.log(2))
    with pytest.raises(ShapeError, match="2 and 3"):
        a.kl(Table(torch.zeros(3)))


@pytest.mark.parametrize(
    ("x", "same"),
    [
        (torch.tensor([10, 11, 12]), torch.equal),
        (np.array([[10], [11], [12]]), np.array_equal),
        ([10, 11, 12], lambda a, b: a == b),
        ((10, 11, 12), lambda a, b: a == b),
        (Rows([10, 11, 12]), lambda a, b: a.rows == b.rows),
    ],
)
def test_take_inverts_join_for_every_sample_form(x, same):
    both = join([x, take(x, torch.tensor([2, 0]))])
    assert same(take(both, torch.tensor([0, 1, 2])), x)
    assert same(take(both, torch.tensor([3, 4])), take(x, torch.tensor([2, 0])))


def test_contexts():
    assert contexts_of(None, 2) is None
    assert contexts_of("ab", 2) == ["ab", "ab"]
    assert contexts_of(["p", "q"], 2) == ["p", "q"]
    with pytest.raises(ShapeError, match="2 contexts for 3 samples"):
        contexts_of(["p", "q"], 3)


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        (torch.tensor([0.0, torch.nan]), NumericsError),
        (torch.tensor([0.0, torch.inf]), NumericsError),
        (torch.tensor([-torch.inf, -torch.inf]), NumericsError),
        (torch.zeros(0), ShapeError),
        (torch.zeros(2, 2), ShapeError),
    ],
)
def test_bad_tables(weights, error):
    with pytest.raises(error):
        Table(weights)


def test_nothing_to_join():
    with pytest.raises(ShapeError, match="at least one"):
        join([])
