import json
import math

import numpy as np
import pytest
import torch

from esscher.errors import CheckpointError
from esscher.kit.runs.tree import flatten_tree, unflatten_tree


def round_trip(tree):
    tensors, text = flatten_tree(tree)
    return unflatten_tree(tensors, json.loads(json.dumps(text, allow_nan=False)))


@pytest.mark.parametrize(
    "tree",
    [
        None,
        3,
        {"a": [1, 2.5, "x", None, True], "b": {}},
        {1: "int key", "1": "str key", (2, "x"): "tuple key", None: 0},
        {"$": "float", "value": "not ours"},
        (1, (2, [3, ()])),
        {"best": -math.inf, "worst": math.inf},
    ],
)
def test_plain_state_comes_back_as_it_was(tree):
    assert round_trip(tree) == tree


def test_nan_comes_back_as_nan():
    assert math.isnan(round_trip([math.nan])[0])


def test_tensors_and_arrays_keep_values_and_dtypes():
    tree = {
        "t": torch.tensor([1.5], dtype=torch.bfloat16),
        "u": [torch.arange(3, dtype=torch.uint8), torch.tensor(2.0)],
        "a": np.arange(4, dtype=np.int16).reshape(2, 2),
        "s": np.float32(0.1),
    }
    back = round_trip(tree)
    assert torch.equal(back["t"], tree["t"])
    assert back["u"][0].dtype == torch.uint8
    assert back["u"][1].shape == ()
    np.testing.assert_array_equal(back["a"], tree["a"])
    assert back["a"].dtype == np.int16
    assert type(back["s"]) is np.float32
    assert back["s"] == tree["s"]


def test_paths_that_would_be_equal_stay_apart():
    tree = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}}
    back = round_trip(tree)
    assert back["a.b"].item() == 0
    assert back["a"]["b"].item() == 1


def test_an_optimiser_continues_bit_for_bit():
    def fresh():
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 7))
        return weight, torch.optim.AdamW([weight], lr=0.1)

    def step(weight, optimiser):
        optimiser.zero_grad()
        (weight**4).sum().backward()
        optimiser.step()

    weight, optimiser = fresh()
    step(weight, optimiser)
    tensors, text = flatten_tree({"weight": weight, "optimiser": optimiser.state_dict()})
    saved = unflatten_tree({name: tensor.clone() for name, tensor in tensors.items()}, text)
    again, other = fresh()
    with torch.no_grad():
        again.copy_(saved["weight"])
    other.load_state_dict(saved["optimiser"])
    step(weight, optimiser)
    step(again, other)
    assert torch.equal(weight, again)


@pytest.mark.parametrize("bad", [object(), {1, 2}, b"x", np.array(["text"])])
def test_other_types_are_named_by_their_path(bad):
    with pytest.raises(CheckpointError, match=r"'model\.0\.x'"):
        flatten_tree({"model": [{"x": bad}]})


def test_a_missing_tensor_is_named():
    tensors, tree = flatten_tree({"w": torch.zeros(1)})
    del tensors["w"]
    with pytest.raises(CheckpointError, match="'w'"):
        unflatten_tree(tensors, tree)
