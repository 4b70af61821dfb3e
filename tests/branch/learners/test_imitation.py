"""Imitation: loss and accuracies by hand, twenty graphs learnt by heart, plateaus."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from esscher.branch.learners import imitation
from esscher.branch.learners.imitation import ImitationConfig, Sample
from esscher.branch.network import NetworkConfig
from esscher.errors import ConfigError, DataError, NumericsError, ShapeError
from esscher.kit.runs.checkpoint import load_checkpoint, save_checkpoint
from esscher.kit.runs.seeds import Streams
from esscher.kit.runs.tree import flatten_tree, unflatten_tree
from tests.branch.graphs import observation, plain_scores

NETWORK = NetworkConfig(width=16, output="logit")
CONFIG = ImitationConfig(lr=3e-3, batch=10)


def samples(n, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 8, n)
    return [Sample(observation(rng, candidates=k), rng.random(k)) for k in sizes]


def test_loss_and_accuracy_are_those_of_the_formula():
    data = samples(30)
    # Two choices of the expert are as good.
    data[0].scores[:] = 0
    data[0].scores[-2:] = 1
    state = imitation.init(NETWORK, CONFIG, Streams(0))
    loss, hits = 0.0, dict.fromkeys(imitation.TOP, 0)
    for seen, scores in data:
        with torch.no_grad():
            logits = plain_scores(state.network, seen).double().numpy()
        best = np.flatnonzero(scores == scores.max())
        loss += np.log(np.exp(logits).sum()) - logits[best[0]]
        order = np.argsort(-logits)
        for k in hits:
            hits[k] += bool(set(order[:k]) & set(best))
    found = imitation.assess(state.network, data, batch=7)
    assert found.loss == pytest.approx(loss / 30, rel=1e-5)
    assert found.accuracy == {k: hits[k] / 30 for k in hits}
    assert found.accuracy[1] < found.accuracy[3] < found.accuracy[5]
    info = imitation.step(state, data)
    assert info.loss == pytest.approx(loss / 30, rel=1e-5)
    assert info.accuracy == pytest.approx(hits[1] / 30)


def test_it_learns_twenty_graphs_by_heart():
    data = samples(20, seed=1)
    state = imitation.init(NETWORK, CONFIG, Streams(1))
    for _ in range(150):
        for batch in imitation.shuffled(data, 10, state.rng):
            imitation.step(state, batch)
    assert imitation.assess(state.network, data).accuracy == {1: 1.0, 3: 1.0, 5: 1.0}


def test_an_epoch_has_every_sample_once():
    data = samples(7)
    batches = list(imitation.shuffled(data, 3, np.random.default_rng(0)))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert sorted(id(s) for batch in batches for s in batch) == sorted(map(id, data))


def test_plateaus_lower_the_rate_and_end_it():
    config = ImitationConfig(lr=1.0, patience=2, factor=0.5, stop=5)
    state = imitation.init(NETWORK, config, Streams(2))
    seen = []
    with torch.no_grad():
        for loss in (3.0, 2.0, 2.5, 2.0, 1.9, 2.0, 2.0, 2.0, 2.0, 2.0):
            state.network.head[4].bias.fill_(loss)
            seen.append((imitation.end_epoch(state, loss, config), state.lr))
    assert [on for on, _ in seen] == [True] * 9 + [False]
    assert [lr for _, lr in seen] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert state.best_loss == 1.9
    assert state.best["head.4.bias"].item() == pytest.approx(1.9)
    with pytest.raises(NumericsError, match="validation loss is nan"):
        imitation.end_epoch(state, math.nan, config)


def test_the_lower_rate_is_used():
    moved = []
    for lr in (1e-4, 1e-2):
        state = imitation.init(NETWORK, CONFIG, Streams(3))
        state.lr = lr
        before = state.network.head[0].bias.detach().clone()
        imitation.step(state, samples(5))
        moved.append(float((state.network.head[0].bias - before).detach().abs().max()))
    assert moved == pytest.approx([1e-4, 1e-2], rel=0.01)


@pytest.mark.parametrize("epochs", [0, 2])
def test_k_steps_saved_and_k_more_are_2k(tmp_path, no_global_state, epochs):
    data = samples(12, seed=4)

    def trained(state):
        for batch in imitation.shuffled(data, 5, state.rng):
            imitation.step(state, batch)
        for _ in range(epochs):
            imitation.end_epoch(state, imitation.assess(state.network, data).loss, CONFIG)
        return state

    straight = trained(trained(imitation.init(NETWORK, CONFIG, Streams(5))))
    half = trained(imitation.init(NETWORK, CONFIG, Streams(5)))
    tensors, tree = flatten_tree(half.state_dict())
    save_checkpoint(tmp_path, 1, tensors, {"tree": tree})
    saved = load_checkpoint(tmp_path)
    again = imitation.init(NETWORK, dataclasses.replace(CONFIG, lr=9.0), Streams(6))
    again.load_state_dict(unflatten_tree(saved.tensors, saved.state["tree"]))
    trained(again)
    assert (again.done, again.lr, again.best_loss, again.waited) == (
        straight.done, straight.lr, straight.best_loss, straight.waited
    )  # fmt: skip
    for name, tensor in straight.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)
        assert torch.equal(again.best[name], straight.best[name])


@pytest.mark.parametrize(
    ("scores", "good"), [([0.1, 2], True), ([0.1, -2], False), ([0, np.nan], False), ([], False)]
)
def test_scores_of_an_expert_that_did_not_finish_are_not_usable(scores, good):
    sample = Sample(observation(np.random.default_rng(0), candidates=2), np.array(scores))
    assert imitation.usable(sample) == good


def test_what_cannot_be_learnt_is_an_error():
    state = imitation.init(NETWORK, CONFIG, Streams(7))
    good, bad = samples(2)
    bad.scores[0] = -1
    with pytest.raises(DataError, match="sample 1 has scores that are negative"):
        imitation.step(state, [good, bad])
    with pytest.raises(ShapeError, match="sample 0 has scores"):
        imitation.step(state, [good._replace(scores=np.ones(9))])
    with pytest.raises(DataError, match="one sample"):
        imitation.assess(state.network, [])
    good.observation.rows[:] = np.nan
    before = state.network.head[4].weight.detach().clone()
    with pytest.raises(NumericsError, match="cross-entropy is nan after 0 steps"):
        imitation.step(state, [good])
    assert torch.equal(state.network.head[4].weight, before)


@pytest.mark.parametrize(
    ("name", "value"), [("lr", 0.0), ("batch", 0), ("patience", 0), ("factor", 1.0), ("stop", 0)]
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ConfigError, match=name):
        ImitationConfig(**{name: value})
