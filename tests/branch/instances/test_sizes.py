"""Named sizes are what their names say."""

import numpy as np
import pytest

from esscher.branch.instances.sizes import SIZES, named
from esscher.errors import ConfigError

SHAPES = {
    "setcover-100x100": (100, 100),
    "setcover-165x230": (165, 230),
    "setcover-250x500": (250, 500),
    "setcover-500x1000": (500, 1000),
    "facility-5x5": (36, 30),
    "facility-100x100": (10201, 10100),
}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_shapes(name):
    assert named(name).sample(np.random.default_rng(0)).matrix.shape == SHAPES[name]


def test_names_lead_to_their_class():
    assert all(SIZES[name].name == name for name in SIZES)
    for wanted in ("auction-10x50", "independent-set-25", "auction-300x1500", "setcover-2000x1000"):
        assert wanted in SIZES
    assert named("auction-10x50").add_item_prob == 0.65
    assert named("auction-100x500").add_item_prob == 0.7


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ConfigError, match=r"did you mean .*setcover-500x1000"):
        named("setcover-500x100")
    with pytest.raises(ConfigError, match="there are auction-100x500, "):
        named("?")
