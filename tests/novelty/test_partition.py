"""Partitions from draws, against every partition there is."""

import numpy as np
import pytest

from esscher.errors import DataError
from esscher.novelty.partition import min_vi_partition, posterior_similarity, vi_bound


def partitions(n):
    """Every partition of n rows, as restricted growth strings."""
    found = [[0]]
    for _ in range(n - 1):
        found = [[*p, k] for p in found for k in range(max(p) + 2)]
    return [np.array(p) for p in found]


def entropy(c):
    share = np.bincount(c) / len(c)
    share = share[share > 0]
    return -(share * np.log2(share)).sum()


def variation(a, b):
    joint = entropy(a * (b.max() + 1) + b)
    return 2 * joint - entropy(a) - entropy(b)


def noisy(seed, n=6, draws=30):
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=n)
    labels = np.repeat(truth[None], draws, 0)
    change = rng.random(labels.shape) < 0.25
    labels[change] = rng.integers(4, size=int(change.sum()))
    return labels


def test_similarity_is_counted():
    labels = noisy(0)
    wanted = (labels[:, :, None] == labels[:, None, :]).mean(0)
    assert posterior_similarity(labels) == pytest.approx(wanted)
    many = np.random.default_rng(0).integers(40, size=(400, 12))
    wanted = (many[:, :, None] == many[:, None, :]).mean(0)
    assert posterior_similarity(many) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_the_search_finds_the_least_bound_of_all_partitions(seed):
    similarity = posterior_similarity(noisy(seed))
    found = min_vi_partition(similarity)
    best = min(vi_bound(p, similarity) for p in partitions(6))
    assert vi_bound(found, similarity) == pytest.approx(best, abs=1e-9)
    assert found[0] == 0
    assert found.max() + 1 == len(np.unique(found))


def test_the_bound_is_below_the_mean_variation_and_orders_like_it():
    labels = noisy(3, draws=200)
    similarity = posterior_similarity(labels)
    # The mean log size of a row's cluster in the draws, log M - H.
    constant = np.mean([np.log2(6) - entropy(c) for c in labels])
    for p in partitions(6)[::9]:
        mean = np.mean([variation(p, c) for c in labels])
        assert vi_bound(p, similarity) + constant <= mean + 1e-9
    found = min_vi_partition(similarity)
    mean = {tuple(p): np.mean([variation(p, c) for c in labels]) for p in partitions(6)}
    assert mean[tuple(found)] <= sorted(mean.values())[5]


def test_certain_draws_give_themselves_back():
    c = np.array([0, 1, 1, 2, 0, 2, 2])
    assert min_vi_partition(posterior_similarity(np.repeat(c[None], 5, 0))).tolist() == c.tolist()
    assert min_vi_partition(np.ones((1, 1))).tolist() == [0]


def test_candidates_are_a_beginning():
    similarity = posterior_similarity(noisy(5, n=9))
    given = min_vi_partition(similarity, candidates=noisy(5, n=9))
    assert vi_bound(given, similarity) <= vi_bound(min_vi_partition(similarity), similarity) + 1e-9


def test_what_is_no_similarity():
    with pytest.raises(DataError, match=r"must be \[S, M\] and not empty, got \(0, 3\)"):
        posterior_similarity(np.zeros((0, 3), dtype=int))
    with pytest.raises(DataError, match=r"must be \[M, M\] with M >= 1, got \(2, 3\)"):
        min_vi_partition(np.ones((2, 3)))
