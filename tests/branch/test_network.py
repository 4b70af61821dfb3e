"""The network against its formulas written out, and its sums of messages against autograd."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from esscher.branch import messages
from esscher.branch.compiling import available
from esscher.branch.graphs import collate
from esscher.branch.network import BipartiteNetwork, NetworkConfig
from esscher.errors import ConfigError
from tests.branch.graphs import observation, plain_scores

needs_numba = pytest.mark.skipif(not available(), reason="numba is not installed")

ENDS = [{"output": "value"}, {"output": "linear", "head": "dueling"}, {"output": "logit"}]
"""What comes after the convolutions."""


def network(seed=0, **settings):
    return BipartiteNetwork(NetworkConfig(**settings), rng=torch.Generator().manual_seed(seed))


def lively(seed=0, **settings):
    """Scores of order 1, norms with gains and shifts of their own."""
    found = network(seed, **settings)
    rng = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for layer in found.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.weight.normal_(1, 0.3, generator=rng)
                layer.bias.normal_(0, 0.3, generator=rng)
            elif isinstance(layer, nn.Linear):
                layer.weight.normal_(0, 1.5 / layer.in_features**0.5, generator=rng)
    return found


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"features": "retro43", "edges": "legacy"}, 70_307),
        ({"features": "retro43"}, 70_305),
        ({}, 68_721),
    ],
)
def test_it_has_the_published_number_of_parameters(settings, count):
    assert sum(p.numel() for p in network(**settings).parameters()) == count


@pytest.mark.parametrize("features", ["gasse19", "retro43"])
@pytest.mark.parametrize("edges", ["affine", "legacy"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("plain", [True, False])
def test_it_equals_the_forward_of_the_whole_graph(features, edges, end, plain, monkeypatch):
    if plain:
        monkeypatch.setattr(messages, "available", lambda: False)
    rng = np.random.default_rng(0)
    net = lively(features=features, edges=edges, **end, width=24)
    seen = [observation(rng, rows=r, columns=c, edges=3 * c, candidates=k)
            for r, c, k in [(6, 8, 3), (20, 30, 30), (1, 2, 1), (5, 4, 2)]]  # fmt: skip
    got = net(collate(seen, features))
    wanted = torch.cat([plain_scores(net, one) for one in seen])
    assert wanted.abs().max() > 0.01
    assert (got - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("head", ["plain", "dueling"])
def test_edges_and_gradients_of_whole_and_part_agree(head):
    rng = np.random.default_rng(1)
    net = lively(width=16, head=head)
    seen = observation(rng, rows=9, columns=12, edges=40, candidates=5)
    weight = torch.randn(5, generator=torch.Generator().manual_seed(0))
    slopes = [
        torch.autograd.grad((weight * scores).sum(), list(net.parameters()))
        for scores in (net(collate([seen], "gasse19")), plain_scores(net, seen))
    ]
    for got, wanted in zip(*slopes, strict=True):
        assert (got - wanted).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max()))


@needs_numba
def test_gradients_of_the_compiled_loop_are_those_of_autograd():
    rng = torch.Generator().manual_seed(0)
    norm = nn.LayerNorm(6)
    with torch.no_grad():
        norm.weight.normal_(generator=rng)
        norm.bias.normal_(generator=rng)
    parts = [torch.randn(*shape, generator=rng) for shape in [(4, 6), (3, 6), (6,), (7,)]]
    source = torch.tensor([0, 1, 2, 3, 0, 1, 3], dtype=torch.int32)
    target = torch.tensor([0, 0, 0, 1, 1, 2, 2], dtype=torch.int32)
    up = torch.randn(3, 6, generator=rng)
    found = []
    for sum_of in (messages.sum_of_messages, messages.plain_sum_of_messages):
        left, right, weight, value = (part.clone().requires_grad_() for part in parts)
        total = sum_of(left, right, weight, norm, (source, target, value))
        wrt = [left, right, weight, value, norm.weight, norm.bias]
        found.append([total.detach(), *torch.autograd.grad((up * total).sum(), wrt)])
    for got, wanted in zip(*found, strict=True):
        assert (got - wanted).abs().max() < 1e-5


def test_a_row_without_edges_and_a_candidate_without_rows():
    seen = observation(np.random.default_rng(2), rows=3, columns=3, candidates=2)._replace(
        edge_row=np.array([1], np.int32),
        edge_column=np.array([0], np.int32),
        edge_value=np.ones(1, np.float32),
        candidates=np.array([0, 2], np.int32),
    )
    net = lively()
    assert (net(collate([seen], "gasse19")) - plain_scores(net, seen)).abs().max() < 1e-5
    empty = seen._replace(edge_row=seen.edge_row[:0], edge_column=seen.edge_column[:0],
                          edge_value=seen.edge_value[:0])  # fmt: skip
    assert (net(collate([empty], "gasse19")) - plain_scores(net, empty)).abs().max() < 1e-5


def test_legacy_edges_do_not_depend_on_coefficients_and_affine_ones_do():
    seen = observation(np.random.default_rng(3))
    other = seen._replace(edge_value=2 - 3 * seen.edge_value)
    for edges, same in (("legacy", True), ("affine", False)):
        net = lively(edges=edges)
        first, second = (net(collate([s], "gasse19")) for s in (seen, other))
        assert torch.allclose(first, second, atol=1e-6) == same


def test_the_order_of_rows_and_columns_does_not_matter():
    rng = np.random.default_rng(4)
    seen = observation(rng, rows=7, columns=9, edges=30, candidates=4)
    rows, columns = rng.permutation(7), rng.permutation(9)
    row, column = np.argsort(rows)[seen.edge_row], np.argsort(columns)[seen.edge_column]
    order = np.argsort(row, kind="stable")
    moved = seen._replace(
        rows=seen.rows[rows],
        columns=seen.columns[columns],
        edge_row=row[order].astype(np.int32),
        edge_column=column[order].astype(np.int32),
        edge_value=seen.edge_value[order],
        candidates=np.argsort(columns)[seen.candidates].astype(np.int32),
    )
    net = lively()
    first, second = (net(collate([s], "gasse19")) for s in (seen, moved))
    assert torch.allclose(first, second, atol=1e-5)


def test_values_are_minus_logits_or_their_leaky_relu():
    seen = observation(np.random.default_rng(5), candidates=8)
    value, linear, logit = (lively(output=name) for name in ("value", "linear", "logit"))
    with torch.no_grad():
        middle = logit(collate([seen], "gasse19")).mean()
        for net in (value, logit):
            net.head[4].bias -= middle
    z = logit(collate([seen], "gasse19"))
    assert z.min() < 0 < z.max()
    expected = torch.where(z > 0, -z, -0.01 * z)
    assert torch.allclose(value(collate([seen], "gasse19")), expected)
    linear.load_state_dict(value.state_dict())
    assert torch.equal(linear(collate([seen], "gasse19")), -z)


def test_the_state_value_moves_all_candidates_alike_and_advantages_none():
    rng = np.random.default_rng(6)
    seen = [observation(rng, candidates=k) for k in (8, 5)]
    net = lively(output="linear", head="dueling")

    def scores():
        return net(collate(seen, "gasse19"))

    with torch.no_grad():
        before = scores()
        net.state_head[4].bias += 1
        assert torch.allclose(scores(), before - 1, atol=1e-5)
        net.state_head[4].bias -= 1
        net.head[4].bias += 3
        assert torch.allclose(scores(), before, atol=1e-5)
        net.head[4].weight.zero_()
        values = scores().split([8, 5])
    for q, v in zip(before.split([8, 5]), values, strict=True):
        assert torch.allclose(v, q.mean().expand_as(v), atol=1e-5)
        assert q.std() > 0.01


def test_a_softmax_takes_no_dueling_head():
    with pytest.raises(ConfigError, match="softmax does not see V"):
        NetworkConfig(output="logit", head="dueling")


def test_initial_weights_are_those_asked_for(no_global_state):
    normal = network(init="normal", features="retro43")
    weights = torch.cat([m.weight.flatten() for m in normal.modules() if isinstance(m, nn.Linear)])
    assert abs(weights.std().item() - 0.01) < 1e-4
    assert all(
        not m.bias.any()
        for m in normal.modules()
        if isinstance(m, nn.Linear) and m.bias is not None
    )
    for layer in network().modules():
        if isinstance(layer, nn.Linear):
            assert 0 < layer.weight.abs().max() <= 1 / layer.in_features**0.5
    same = zip(network(7).parameters(), network(7).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 0), ("width", 1.5), ("features", "all"), ("edges", "none"), ("output", "q"),
     ("head", "none"), ("init", "zero")],
)  # fmt: skip
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ConfigError, match=name):
        dataclasses.replace(NetworkConfig(), **{name: value})
