"""Policy gradients: the loss by hand, the better of two candidates, sampling of decisions."""

import dataclasses

import numpy as np
import pytest
import torch

from esscher.branch.graphs import collate
from esscher.branch.learners import reinforce
from esscher.branch.learners.reinforce import Decision, ReinforceConfig
from esscher.branch.network import NetworkConfig
from esscher.errors import ConfigError, DataError, NumericsError
from esscher.kit.runs.checkpoint import load_checkpoint, save_checkpoint
from esscher.kit.runs.seeds import Streams
from esscher.kit.runs.tree import flatten_tree, unflatten_tree
from tests.branch.graphs import observation, plain_scores

NETWORK = NetworkConfig(width=16, output="logit")
CONFIG = ReinforceConfig(lr=3e-3, entropy=0.3, batch=4)


def decisions(n, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 6, n).tolist()
    return [
        Decision(observation(rng, candidates=k), int(rng.integers(k)), -float(rng.integers(2, 9)))
        for k in sizes
    ]


def test_a_step_goes_along_the_gradient_of_the_formula():
    data = decisions(10)
    state = reinforce.init(NETWORK, CONFIG, Streams(0))
    loss = entropy = 0.0
    for seen, place, gain in data:
        log_prob = plain_scores(state.network, seen).log_softmax(0)
        entropy = entropy - (log_prob.exp() * log_prob).sum() / 10
        loss = loss - gain * log_prob[place] / 10
    loss = loss - 0.3 * entropy
    parameters = list(state.network.parameters())
    slopes = torch.autograd.grad(loss, parameters)
    info = reinforce.step(state, data, CONFIG)
    assert info.loss == pytest.approx(loss.item(), rel=1e-5)
    assert info.entropy == pytest.approx(entropy.item(), rel=1e-5)
    assert info.gain == pytest.approx(np.mean([d.gain for d in data]))
    for parameter, slope in zip(parameters, slopes, strict=True):
        assert torch.allclose(parameter.grad, slope, atol=1e-5)


def test_the_better_of_two_candidates_becomes_likelier():
    seen = observation(np.random.default_rng(1), candidates=2)
    state = reinforce.init(NETWORK, CONFIG, Streams(1))
    config = dataclasses.replace(CONFIG, entropy=0.0)
    gains = (-9.0, -2.0)

    def probability():
        with torch.no_grad():
            return state.network(collate([seen], "gasse19")).softmax(0).numpy().astype(float)

    before = probability()[1]
    for _ in range(60):
        p = probability()
        places = state.rng.choice(2, size=8, p=p / p.sum()).tolist()
        reinforce.step(state, [Decision(seen, k, gains[k]) for k in places], config)
    assert before < 0.7
    assert probability()[1] > 0.9


def test_the_entropys_bonus_keeps_it_wide():
    seen = observation(np.random.default_rng(2), candidates=4)
    state = reinforce.init(NETWORK, CONFIG, Streams(2))
    with torch.no_grad():
        state.network.head[4].weight.mul_(20)
    found = [reinforce.step(state, [Decision(seen, 0, 0.0)], CONFIG).entropy for _ in range(60)]
    assert found[0] < found[-1] <= np.log(4) + 1e-6


def test_decisions_are_drawn_by_rate_and_large_trees_are_left_out():
    config = ReinforceConfig(sample_rate=0.25, largest=10_000)
    found = reinforce.draw(10_000, config, np.random.default_rng(3))
    # Five standard deviations of a binomial with n = 10,000 and p = 1/4.
    assert abs(len(found) - 2500) < 5 * np.sqrt(10_000 * 0.25 * 0.75)
    assert (np.diff(found) > 0).all()
    assert len(reinforce.draw(10_001, config, np.random.default_rng(3))) == 0
    every = dataclasses.replace(config, sample_rate=1.0)
    assert reinforce.draw(5, every, np.random.default_rng(3)).tolist() == [0, 1, 2, 3, 4]


def test_k_steps_saved_and_k_more_are_2k(tmp_path, no_global_state):
    data = decisions(6, seed=4)

    def trained(state):
        for _ in range(4):
            drawn = state.rng.integers(6, size=5).tolist()
            reinforce.step(state, [data[i] for i in drawn], CONFIG)
        return state

    straight = trained(trained(reinforce.init(NETWORK, CONFIG, Streams(5))))
    half = trained(reinforce.init(NETWORK, CONFIG, Streams(5)))
    tensors, tree = flatten_tree(half.state_dict())
    save_checkpoint(tmp_path, 1, tensors, {"tree": tree})
    saved = load_checkpoint(tmp_path)
    again = reinforce.init(NETWORK, CONFIG, Streams(6))
    again.load_state_dict(unflatten_tree(saved.tensors, saved.state["tree"]))
    trained(again)
    for name, tensor in straight.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)


def test_what_is_not_finite_stops_it_before_the_step():
    state = reinforce.init(NETWORK, CONFIG, Streams(7))
    before = [p.detach().clone() for p in state.network.parameters()]
    data = decisions(6)
    data[5] = data[5]._replace(gain=-np.inf)
    with pytest.raises(NumericsError, match="loss of the policy is -inf after 0 steps"):
        reinforce.step(state, data, CONFIG)
    for p, old in zip(state.network.parameters(), before, strict=True):
        assert torch.equal(p, old)
    with pytest.raises(DataError, match="one decision"):
        reinforce.step(state, [], CONFIG)


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", 0.0), ("entropy", -1.0), ("sample_rate", 0.0), ("largest", 0), ("batch", 0)],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ConfigError, match=name):
        ReinforceConfig(**{name: value})
