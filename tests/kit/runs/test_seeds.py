import json

import numpy as np
import pytest
import torch

from esscher.errors import CheckpointError, ConfigError
from esscher.kit.runs.seeds import Streams, rng_state, set_rng_state


def draw(generator):
    return torch.rand(5, generator=generator).tolist()


def test_a_stream_depends_on_seed_and_name_only(no_global_state):
    first, second = Streams(7), Streams(7)
    second.numpy("other").random(3)
    second.torch("proposal", 1)
    assert draw(first.torch("proposal")) == draw(second.torch("proposal"))
    assert first.numpy("env", 3).random() == second.numpy("env", 3).random()


def test_streams_of_other_names_indices_and_seeds_differ():
    streams = Streams(0)
    values = [
        streams.numpy("a").random(),
        streams.numpy("a", 0).random(),
        streams.numpy("a", "0").random(),
        streams.numpy("a", 1).random(),
        streams.numpy("b").random(),
        Streams(1).numpy("a").random(),
    ]
    assert len(set(values)) == len(values)


def test_the_first_numbers_of_a_stream_are_fixed():
    assert Streams(0).numpy("proposal").integers(1000, size=4).tolist() == [443, 553, 811, 626]
    generator = Streams(0).torch("proposal")
    assert torch.randint(1000, (4,), generator=generator).tolist() == [254, 131, 541, 718]


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, True, "3", None])
def test_a_seed_is_a_64_bit_integer(seed):
    with pytest.raises(ConfigError, match="seed must be"):
        Streams(seed)


def test_a_torch_generator_continues_where_it_was():
    one = Streams(3).torch("x")
    draw(one)
    state = rng_state(one).clone()
    expected = draw(one)
    other = torch.Generator()
    set_rng_state(other, state)
    assert draw(other) == expected


def test_a_numpy_generator_continues_from_json():
    one = Streams(3).numpy("x")
    one.random(3)
    state = json.loads(json.dumps(rng_state(one)))
    expected = one.random(4).tolist()
    other = np.random.default_rng(0)
    set_rng_state(other, state)
    assert other.random(4).tolist() == expected


@pytest.mark.parametrize("state", [{}, torch.zeros(3, dtype=torch.uint8)])
@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_a_foreign_state_is_refused(kind, state):
    with pytest.raises(CheckpointError):
        set_rng_state(getattr(Streams(0), kind)("x"), state)
