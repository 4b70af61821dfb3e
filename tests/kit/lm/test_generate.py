"""Drawing ids: exactness at the edges of the unit interval and of the vocabulary."""

import pytest
import torch

from esscher.kit.lm.generate import draw, generate
from esscher.kit.lm.gpt import GPT, GPTConfig
from tests.kit.lm.models import sharpen


def test_draw_inverts_the_distribution_function():
    p = torch.tensor([0.2, 0.0, 0.5, 0.3])
    u = torch.tensor([0.0, 0.199, 0.201, 0.699, 0.701, 1 - 2**-53], dtype=torch.float64)
    ids, log_prob = draw(p.log().expand(6, -1), u[:, None])
    assert ids.tolist() == [0, 0, 2, 2, 3, 3]
    torch.testing.assert_close(log_prob.exp(), p[ids])


def test_impossible_ids_are_never_drawn():
    logits = torch.full((1000, 50), -torch.inf)
    logits[:, 7] = 3.0
    u = torch.linspace(0, 1 - 2**-53, 1000, dtype=torch.float64)[:, None]
    ids, log_prob = draw(logits, u)
    assert set(ids.tolist()) == {7}
    assert log_prob.tolist() == [0.0] * 1000


def test_ids_rarer_than_float32_resolution_keep_their_share():
    """65,535 ids share a mass of 2**-12, so each has 2**-28: below one float32 step near 1."""
    logits = torch.full((1, 2**16), -28.0) * torch.tensor(2.0).log()
    logits[0, 0] = 0.0
    tail = 2**-12
    u = torch.linspace(1 - tail / 256, 1, 33, dtype=torch.float64)[:-1, None]
    ids, _ = draw(logits.expand(32, -1), u)
    spacing = ids.diff()
    assert int(ids[0]) == pytest.approx(2**16 - 256, abs=2)
    assert int(spacing.min()) >= 7
    assert int(spacing.max()) <= 9


def test_a_prompt_is_read_once_for_all_rows():
    network = GPT(
        GPTConfig(5, 16, width=8, layers=2, heads=2), rng=torch.Generator().manual_seed(0)
    )
    sharpen(network)
    shapes = []
    network.embed.register_forward_hook(lambda _, inputs, __: shapes.append(inputs[0].shape))
    generate(
        network, torch.tensor([0, 1, 2]), 9, max_new=3, end=0, rng=torch.Generator().manual_seed(0)
    )
    assert shapes[0] == (1, 3)
    assert all(shape[1] == 1 for shape in shapes[1:])
