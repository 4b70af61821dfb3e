"""A head on a transformers model's states: the same whether it reads or decodes."""

import pytest
import torch

from esscher.kit.lm.hf_twist import HFTwist
from esscher.kit.lm.twist import log_psi
from tests.kit.lm.models import HF_KINDS, hf
from tests.worlds import seeded

each = pytest.mark.parametrize("kind", HF_KINDS)


def trained(lm, **settings):
    twist = lm.twist(**settings)
    rng = seeded(3)
    with torch.no_grad():
        for p in twist.parameters():
            p.add_(torch.randn(p.shape, generator=rng) * 0.3)
    return twist


@each
@pytest.mark.parametrize("bounded", [True, False])
def test_decoding_gives_what_reading_gives(kind, bounded):
    lm = hf(kind, max_new=4)
    twist = trained(lm, bounded=bounded)
    ids = torch.tensor([[1, 2, 3, 1, 2], [1, 3, 3, 2, 1], [1, 2, 1, 1, 3]])
    read = log_psi(twist.values(twist.states(ids, torch.ones_like(ids).bool())), bounded=bounded)
    read = read.view(3, 5, -1)
    first, decoder = twist.prefill(ids[:1, :1], torch.zeros(3, dtype=torch.long), 4)
    steps = [first] + [decoder.step(ids[:, t]) for t in (1, 2)]
    torch.testing.assert_close(torch.stack(steps, 1), read[:, :3], atol=1e-5, rtol=0)
    decoder.select(torch.tensor([2, 0]))
    torch.testing.assert_close(decoder.step(ids[[2, 0], 3]), read[[2, 0], 3], atol=1e-5, rtol=0)


@each
def test_padding_changes_nothing(kind):
    lm = hf(kind)
    twist = trained(lm)
    alone = twist.values(twist.states(torch.tensor([[1, 2]]), torch.tensor([[True, True]])))
    ids = torch.tensor([[1, 2, 0, 0], [1, 1, 2, 3]])
    mask = torch.tensor([[True, True, False, False], [False, True, True, True]])
    torch.testing.assert_close(twist.values(twist.states(ids, mask))[:2], alone, atol=1e-5, rtol=0)


@each
def test_the_value_of_one_token_is_that_among_all(kind):
    lm = hf(kind)
    twist = trained(lm)
    ids = torch.tensor([[1, 2, 3], [3, 1, 2]])
    states = twist.states(ids, torch.ones_like(ids).bool())
    chosen = torch.tensor([0, 1, 2, 3, 2, 1])
    every = twist.values(states)
    assert every.shape == (6, len(twist.bias))
    torch.testing.assert_close(twist.values_of(states, chosen), every[torch.arange(6), chosen])


def test_an_untrained_twist_is_worth_the_same_everywhere():
    lm = hf("llama")
    ids = torch.tensor([[1, 2, 3]])
    mask = torch.ones_like(ids).bool()
    plain = lm.twist()
    assert float(plain.values(plain.states(ids, mask)).detach().abs().max()) == 0.0
    plain.fill(-2.5)
    worth = log_psi(plain.values(plain.states(ids, mask)), bounded=True).detach()
    torch.testing.assert_close(worth, torch.full_like(worth, -2.5))


@each
def test_only_the_head_is_trained_and_stored(kind, no_global_state):
    lm = hf(kind)
    before = {k: v.clone() for k, v in lm.model.state_dict().items()}
    twist, again = lm.twist(), lm.twist()
    assert isinstance(twist, HFTwist)
    assert set(twist.state_dict()) == {"inner", "outer", "level", "choice", "bias"}
    assert all(
        torch.equal(a, b) for a, b in zip(twist.parameters(), again.parameters(), strict=True)
    )
    ids = torch.tensor([[1, 2, 3]])
    states = twist.states(ids, torch.ones_like(ids).bool())
    assert not states.requires_grad
    twist.values_of(states, torch.tensor([2, 3, 0])).sum().backward()
    assert twist.level.grad is not None
    assert all(p.grad is None for p in lm.model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in lm.model.state_dict().items())
