"""The fused pieces equal the plain lines they stand for, in value and gradient."""

import pytest
import torch
from torch import nn

from esscher.kit.lm.fused import BLOCK, squared_relu, token_log_prob


def test_squared_relu_and_its_gradient():
    x = torch.tensor([-2.0, -0.0, 0.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    y = squared_relu(x)
    assert y.tolist() == [0.0, 0.0, 0.0, 0.25, 9.0]
    assert torch.autograd.gradcheck(squared_relu, (x[[0, 3, 4]],))


@pytest.mark.parametrize("n", [1, BLOCK, BLOCK + 3])
def test_token_log_prob_is_the_log_softmax(n):
    rng = torch.Generator().manual_seed(0)
    states = torch.randn(n, 8, dtype=torch.float64, generator=rng).requires_grad_()
    weight = torch.randn(11, 8, dtype=torch.float64, generator=rng).requires_grad_()
    target = torch.randint(11, (n,), generator=rng)
    slope = torch.randn(n, dtype=torch.float64, generator=rng)

    plain = -nn.functional.cross_entropy(states @ weight.t(), target, reduction="none")
    fused = token_log_prob(states, weight, target)

    torch.testing.assert_close(fused, plain)
    expected = torch.autograd.grad(plain, (states, weight), slope)
    found = torch.autograd.grad(fused, (states, weight), slope, retain_graph=True)
    again = torch.autograd.grad(fused, (states, weight), slope)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(again, expected)


def test_token_log_prob_of_far_logits_and_of_no_tokens():
    states = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    found = token_log_prob(states, weight, torch.tensor([0, 0]))
    assert found.tolist() == [0.0, -2e4]
    none = token_log_prob(states[:0], weight, torch.zeros(0, dtype=torch.long))
    (grad,) = torch.autograd.grad(none.sum(), weight)
    assert none.shape == (0,)
    assert not grad.any()
