"""Muon against its definition and against torch's, which rounds to bfloat16."""

import pytest
import torch
from torch import nn

from esscher.kit.lm.muon import Muon, orthogonalised


def matrices(seed, *shapes):
    rng = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=rng)) for shape in shapes]


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 12), (2, 12, 4)])
def test_the_rounds_act_on_singular_values_alone(shape):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    s = s / s.norm(dim=-1, keepdim=True)
    for _ in range(3):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(orthogonalised(x), u * s[:, None] @ v)


def test_it_moves_as_torch_s_muon_does():
    shapes = [(8, 8), (12, 8), (8, 12), (12, 8)]
    own, theirs = matrices(0, *shapes), matrices(0, *shapes)
    optimiser = Muon(own, 0.1, weight_decay=0.5)
    other = torch.optim.Muon(
        theirs, 0.1, weight_decay=0.5, ns_steps=3, adjust_lr_fn="match_rms_adamw"
    )
    for seed in range(1, 5):
        for p, q, g in zip(own, theirs, matrices(seed, *shapes), strict=True):
            p.grad, q.grad = g.detach().clone(), g.detach().clone()
        optimiser.step()
        other.step()
    start = matrices(0, *shapes)
    for p, q, s in zip(own, theirs, start, strict=True):
        assert (p - q).norm().item() < 0.02 * (p - s).norm().item()


def test_a_matrix_without_a_gradient_stays_and_the_state_can_be_saved():
    still, moved = matrices(0, (4, 4), (4, 4))
    moved.grad = torch.ones(4, 4)
    before = still.detach().clone()
    optimiser = Muon([still, moved], 0.1, weight_decay=0.0)
    optimiser.step()
    assert torch.equal(still, before)

    copies = [nn.Parameter(p.detach().clone()) for p in (still, moved)]
    restored = Muon(copies, 0.1, weight_decay=0.0)
    restored.load_state_dict(optimiser.state_dict())
    copies[1].grad = moved.grad.clone()
    optimiser.step()
    restored.step()
    assert torch.equal(copies[1], moved)


def test_a_zero_gradient_gives_no_nan():
    (p,) = matrices(0, (4, 6))
    p.grad = torch.zeros(4, 6)
    before = p.detach().clone()
    Muon([p], 0.1, weight_decay=0.0).step()
    assert torch.equal(p, before)
