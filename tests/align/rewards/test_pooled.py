"""Rewards over workers: the same numbers and the same errors as without."""

import math
import os

import pytest
import torch

from esscher.align.rewards.pooled import PooledReward
from esscher.core import Reward, Target
from esscher.errors import ConfigError, DataError, NumericsError
from esscher.kit.scale.pool import open_pool
from tests.align import worlds
from tests.align.rewards import functions

TEXTS = ["", "a", "bb", "ccc", "dddd", "eeeee", "ffffff"]
PROMPTS = ["p" * i for i in range(len(TEXTS))]


@pytest.fixture(scope="module")
def two():
    with open_pool("processes:2") as pool:
        yield pool


@pytest.mark.parametrize("batch", [None, 1, 2, 3, 100])
def test_values_are_those_of_the_function_in_order(two, batch):
    pooled = PooledReward(functions.length, two, batch=batch)
    assert pooled(TEXTS) == functions.length(TEXTS)
    assert pooled(TEXTS, PROMPTS) == functions.length(TEXTS, PROMPTS)
    assert PooledReward(functions.plain_length, two, batch=batch)(TEXTS, PROMPTS) == list(range(7))
    assert pooled([]) == []


def test_the_posterior_does_not_change(two):
    """On the enumerable world, whose items are lists of token ids."""
    direct, pooled = (
        Target(worlds.prior(), Reward(function, beta=worlds.BETA)).table()
        for function in (functions.plain_length, PooledReward(functions.plain_length, two))
    )
    assert torch.equal(direct.log_probs, pooled.log_probs)


def test_workers_load_what_the_function_needs_and_no_more(two):
    assert PooledReward(functions.torch_is_loaded, two)(["a", "b"]) == [0.0, 0.0]


@pytest.mark.parametrize(("batch", "calls"), [(None, [4.0, 3.0]), (3, [3.0, 3.0, 1.0])])
def test_batches_have_the_size_that_was_asked(two, batch, calls):
    found = PooledReward(functions.sizes, two, batch=batch)(TEXTS)
    assert found == [n for n in calls for _ in range(int(n))]


def test_it_runs_on_the_workers(two):
    found = set(PooledReward(functions.process, two)(TEXTS))
    assert len(found) == 2
    assert os.getpid() not in found
    with open_pool("serial") as pool:
        assert set(PooledReward(functions.process, pool)(TEXTS)) == {os.getpid()}


def problem(function, items=("a", "b"), contexts=None, **settings):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is the result
        Reward(function, **settings).log_weight(list(items), contexts)
    return caught.value


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("short", DataError, "expected 2 numbers"),
        ("words", DataError, "expected 2 numbers"),
        ("nan_on_b", NumericsError, "got nan"),
        ("picky", DataError, "the function raised ValueError: no b, please"),
    ],
)
def test_errors_are_those_of_the_function_itself(two, name, kind, message):
    function = getattr(functions, name)
    direct, pooled = problem(function), problem(PooledReward(function, two, batch=2))
    assert type(direct) is type(pooled) is kind
    for error in (direct, pooled):
        assert message in str(error)
        assert f"Reward '{name}'" in str(error) or name in str(error)
    assert str(pooled).count("the function raised") <= 1


@pytest.mark.parametrize("name", ["picky", "hang", "die"])
def test_items_on_which_it_raises_hangs_or_dies_can_be_ruled_out(name):
    with open_pool("processes:1", retries=0) as pool:
        pooled = PooledReward(getattr(functions, name), pool, timeout=0.5)
        weights = Reward(pooled, on_error="worst")
        with pytest.warns(UserWarning, match="raised on 1 of 3 items"):
            assert weights.log_weight(["a", "b", "c"], None).tolist() == [1.0, -math.inf, 1.0]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("hang", r"WorkerTimeoutError: hang on batch 1 of 2 did not end within the timeout of 0.5"),
        ("die", r"WorkerError: die on batch 1 of 2: the worker was killed by signal 9"),
    ],
)
def test_hanging_and_dying_are_told(name, what):
    with open_pool("processes:2", retries=0) as pool:
        error = problem(PooledReward(getattr(functions, name), pool, batch=1, timeout=0.5))
    assert isinstance(error, DataError)
    assert what in str(error)


def test_what_cannot_be_sent_is_refused_whatever_is_asked_for_errors(two):
    for on_error in ("raise", "worst"):
        error = problem(PooledReward(lambda xs: [1.0 for _ in xs], two), on_error=on_error)
        assert isinstance(error, ConfigError)
        assert "cannot be sent to a process" in str(error)


def test_a_batch_is_at_least_one_item(two):
    with pytest.raises(ConfigError, match="batch >= 1, got 0"):
        PooledReward(functions.length, two, batch=0)
