import math

import numpy as np
import pytest
import torch

from esscher.core import Condition, Evidence, Likelihood, Moments, Reward
from esscher.errors import ConfigError, DataError, NumericsError

WORDS = ["a", "bb", "ccc"]


def length(items):
    return [len(item) for item in items]


def test_reward_divides_by_beta():
    w = Reward(length, beta=0.5).log_weight(WORDS, None)
    assert w.dtype == torch.float64
    assert w.tolist() == [2.0, 4.0, 6.0]


def test_condition_is_log_of_the_predicate():
    w = Condition(lambda items: [len(i) > 1 for i in items]).log_weight(WORDS, None)
    assert w.tolist() == [-math.inf, 0.0, 0.0]


def test_likelihood_scale():
    assert Likelihood(length, scale=3.0).log_weight(WORDS, None).tolist() == [3.0, 6.0, 9.0]
    silent = Likelihood(lambda items: [-math.inf] * len(items), scale=0.0)
    assert silent.log_weight(WORDS, None).tolist() == [0.0, 0.0, 0.0]


def test_minus_infinity_is_a_valid_reward():
    w = Reward(lambda items: [0.0, -math.inf, 1.0]).log_weight(WORDS, None)
    assert w.tolist() == [0.0, -math.inf, 1.0]


@pytest.mark.parametrize(
    "values",
    [
        lambda items: np.arange(3.0),
        lambda items: torch.arange(3, dtype=torch.float32).requires_grad_(),
        lambda items: (0, 1.0, np.float32(2)),
        lambda items: [torch.tensor(float(i)) for i in range(3)],
    ],
)
def test_every_vector_form_is_understood(values):
    w = Reward(values).log_weight(WORDS, None)
    assert w.tolist() == [0.0, 1.0, 2.0]
    assert not w.requires_grad


def test_contexts_are_passed_where_asked_for():
    seen = []

    def two(items, prompts):
        seen.append(prompts)
        return [0.0] * len(items)

    def named(items, *, contexts=None):
        seen.append(contexts)
        return [0.0] * len(items)

    def one(items, scale=1.0):
        seen.append("none")
        return [scale] * len(items)

    for function in (two, named, one):
        Reward(function).log_weight(WORDS, ["x", "y", "z"])
    assert seen == [["x", "y", "z"], ["x", "y", "z"], "none"]


def test_modules_are_asked_by_their_forward():
    class Judge(torch.nn.Module):
        def forward(self, items, contexts):
            return torch.tensor([float(len(c)) for c in contexts])

    assert Reward(Judge()).log_weight(WORDS, ["", "x", "yy"]).tolist() == [0.0, 1.0, 2.0]


def test_names():
    assert Reward(length).name == "length"
    assert Reward(lambda items: items).name == "reward"
    assert Condition(length, name="short").name == "short"
    assert isinstance(Likelihood(length), Evidence)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, math.nan])
def test_bad_beta_points_to_condition(beta):
    with pytest.raises(ConfigError, match=r"beta > 0, got .* use Condition"):
        Reward(length, beta=beta)


@pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan])
def test_bad_scale(scale):
    with pytest.raises(ConfigError, match="scale"):
        Likelihood(length, scale=scale)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_inf_name_evidence_sample_value_and_item(value):
    broken = Reward(lambda items: [0.0, value, 0.0], name="judge")
    with pytest.raises(NumericsError, match=rf"'judge'.*sample 1 of 3 got {value}.*'bb'.*finite"):
        broken.log_weight(WORDS, None)


def test_long_items_are_cut():
    with pytest.raises(NumericsError) as caught:
        Reward(lambda items: [math.nan]).log_weight(["x" * 5000], None)
    assert len(str(caught.value)) < 400


def test_wrong_length_names_both():
    with pytest.raises(DataError, match="expected 3 numbers, one per item, got 2"):
        Reward(lambda items: [0.0, 1.0]).log_weight(WORDS, None)


@pytest.mark.parametrize(
    "result", [1.0, None, "abc", [None, 1.0, 2.0], [[1.0], [1.0, 2.0], [0.0]], torch.zeros(3, 1)]
)
def test_things_that_are_no_batch_of_numbers(result):
    with pytest.raises(DataError, match="whole batch"):
        Reward(lambda items: result).log_weight(WORDS, None)


def test_a_raising_reward_is_chained():
    def broken(items):
        raise KeyError("no such label")

    with pytest.raises(DataError, match=r"'broken'.*KeyError.*no such label") as caught:
        Reward(broken).log_weight(WORDS, None)
    assert isinstance(caught.value.__cause__, KeyError)


def strict_length(items, contexts=None):
    if any("bb" in item for item in items):
        raise ValueError("two b in a row")
    return [float(len(item)) for item in items]


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (Reward(strict_length, beta=2.0, on_error="worst"), [0.5, -math.inf, 1.5]),
        (Likelihood(strict_length, on_error="worst"), [1.0, -math.inf, 3.0]),
        (
            Condition(lambda x: [v < 3 for v in strict_length(x)], on_error="worst"),
            [0.0, -math.inf, -math.inf],
        ),
    ],
)
def test_raising_items_can_be_ruled_out(evidence, expected):
    with pytest.warns(UserWarning, match=r"raised on 1 of 3 items.*sample 1 \('bb'\): ValueError"):
        assert evidence.log_weight(WORDS, None).tolist() == expected


def test_a_function_that_always_raises_is_an_error_however_configured():
    with pytest.raises(DataError, match="raised on each of 3 items"):
        Reward(lambda items: 1 / 0, on_error="worst").log_weight(WORDS, None)


def test_worst_is_no_licence_for_nan():
    def broken(items):
        if len(items) > 1:
            raise ValueError
        return [math.nan]

    with pytest.raises(NumericsError, match="nan"):
        Reward(broken, on_error="worst").log_weight(WORDS, None)


def test_items_keep_their_contexts_one_by_one():
    def score(items, contexts):
        if len(items) > 1:
            raise ValueError
        return [float(contexts[0])]

    weight = Reward(score, on_error="worst").log_weight(WORDS, [1, 2, 3])
    assert weight.tolist() == [1.0, 2.0, 3.0]


def test_condition_values_must_be_zero_or_one():
    with pytest.raises(DataError, match=r"sample 2 got 0\.5, expected 0 or 1.*'ccc'"):
        Condition(lambda items: [0, 1, 0.5]).log_weight(WORDS, None)


def test_moments_keys_and_features():
    moments = Moments({length: 2.0, "wide": 0.5}, features={"wide": lambda i: [0.0, 1.0, 1.0]})
    assert moments.names == ("length", "wide")
    assert moments.features_of(WORDS, None).tolist() == [[1.0, 0.0], [2.0, 1.0], [3.0, 1.0]]
    fitted = moments.fitted(torch.tensor([1.0, -1.0]), {})
    assert fitted.log_weight(WORDS, None).tolist() == [1.0, 1.0, 2.0]
    assert moments.coefficients is None


def test_hard_moments_rule_out():
    fitted = Moments({length: 2.0}).fitted(torch.tensor([0.0]), {"length": 2.0})
    assert fitted.log_weight(WORDS, None).tolist() == [-math.inf, 0.0, -math.inf]


def test_moments_errors():
    with pytest.raises(ConfigError, match="fit_moments"):
        Moments({length: 2.0}).log_weight(WORDS, None)
    with pytest.raises(ConfigError, match="did you mean 'length'"):
        Moments({"lenght": 2.0}, features={"length": length})
    with pytest.raises(ConfigError, match="at least one"):
        Moments({})
    with pytest.raises(ConfigError, match=r"'length' must be finite, got nan"):
        Moments({length: math.nan})
    with pytest.raises(NumericsError, match="sample 0 got -inf"):
        Moments({"f": 0.0}, {"f": lambda i: [-math.inf, 0.0, 0.0]}).features_of(WORDS, None)
