"""Q-learning: targets by hand, a chain whose values are known, regression without successors."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from esscher.branch.graphs import collate
from esscher.branch.learners import dqn
from esscher.branch.learners.dqn import DQNConfig
from esscher.branch.memory import Memory
from esscher.branch.network import NetworkConfig
from esscher.branch.priorities import Priorities
from esscher.errors import ConfigError, NumericsError
from esscher.kit.runs.checkpoint import load_checkpoint, save_checkpoint
from esscher.kit.runs.seeds import Streams
from esscher.kit.runs.tree import flatten_tree, unflatten_tree
from tests.branch.graphs import observation, plain_scores

NETWORK = NetworkConfig(width=16)
QUICK = DQNConfig(lr=3e-3, batch=16, tau=0.05)


def memory_of(seen, chosen, reward, successor, discount=0.9, **settings):
    """One transition from every observation."""
    n = len(seen)
    memory = Memory(n, **settings)
    memory.extend(seen, chosen, decision=np.arange(n), reward=reward, successor=successor,
                  discount=np.full(n, discount))  # fmt: skip
    return memory


def whole(memory):
    """All transitions, in order."""
    return memory._at(np.arange(len(memory)), np.ones(len(memory)), "gasse19")


def two():
    rng = np.random.default_rng(0)
    return [observation(rng, candidates=k) for k in (3, 4)]


def state_of(config=QUICK, seed=0):
    """A state whose slow network differs from its own."""
    state = dqn.init(NETWORK, config, Streams(seed))
    other = dqn.init(NETWORK, config, Streams(seed + 100))
    state.target.load_state_dict(other.network.state_dict())
    return state


@pytest.mark.parametrize("double", [True, False])
def test_targets_are_those_of_the_formula(double):
    config = dataclasses.replace(QUICK, double=double)
    state, seen = state_of(config), two()
    batch = whole(memory_of(seen, [0, 1], [-1.0, -0.5], [1, -1]))
    with torch.no_grad():
        online, slow = (plain_scores(net, seen[1]) for net in (state.network, state.target))
    best = int((online if double else slow).argmax())
    got = dqn.targets(state, batch, config)
    assert torch.allclose(got, torch.tensor([-1 + 0.9 * float(slow[best]), -0.5]), atol=1e-6)


def test_double_and_single_targets_differ_where_the_networks_disagree():
    seen = two()
    batch = whole(memory_of(seen, [0, 1], [-1.0, -0.5], [1, -1]))
    found = []
    for seed in range(8):
        state = state_of(seed=seed)
        pair = [dqn.targets(state, batch, dataclasses.replace(QUICK, double=d)) for d in (0, 1)]
        found.append(float(pair[0][0] - pair[1][0]))
    # The greatest value of the slow network is never below its value at another's choice.
    assert min(found) >= 0 < max(found)


def test_targets_in_log_space_go_there_and_back():
    config = dataclasses.replace(QUICK, space="log")
    state, seen = state_of(config), two()
    batch = whole(memory_of(seen, [0, 1], [-7.0, -0.5], [1, -1]))
    with torch.no_grad():
        online, slow = (plain_scores(net, seen[1]) for net in (state.network, state.target))
        value = float(slow[online.argmax()])
    q = -7 + 0.9 * math.copysign(math.expm1(abs(value)), value)
    wanted = torch.tensor([-math.log1p(-q), -math.log1p(0.5)])
    assert torch.allclose(dqn.targets(state, batch, config), wanted, atol=1e-6)
    q = torch.tensor([-50.0, -1.0, 0.0, 0.02])
    assert torch.allclose(dqn.from_log(dqn.to_log(q)), q, rtol=1e-5)


@pytest.mark.parametrize("loss", ["square", "huber"])
def test_a_step_goes_along_the_clipped_gradient_of_the_weighted_loss(loss):
    config = dataclasses.replace(QUICK, loss=loss, clip=0.02)
    state, seen = state_of(config), two()
    batch = whole(memory_of(seen, [2, 1], [-5.0, -0.5], [-1, -1]))
    batch = batch._replace(weight=torch.tensor([0.25, 1.0]))
    q = torch.stack([plain_scores(state.network, seen[0])[2],
                     plain_scores(state.network, seen[1])[1]])  # fmt: skip
    apart = q - torch.tensor([-5.0, -0.5])
    each = apart**2
    if loss == "huber":
        each = torch.where(apart.abs() < 1, apart**2 / 2, apart.abs() - 0.5)
    value = (each * torch.tensor([0.25, 1.0])).mean()
    parameters = list(state.network.parameters())
    slopes = [slope.clamp(-0.02, 0.02) for slope in torch.autograd.grad(value, parameters)]
    info = dqn.step(state, batch, config)
    assert info.loss == pytest.approx(float(value.detach()), rel=1e-5)
    assert np.allclose(info.error, -apart.detach().numpy(), atol=1e-6)
    clipped = 0
    for parameter, slope in zip(parameters, slopes, strict=True):
        assert torch.allclose(parameter.grad, slope, atol=1e-6)
        clipped += int((slope.abs() == 0.02).sum())
    assert clipped > 0


def test_the_slow_network_follows_by_tau():
    config = dataclasses.replace(QUICK, tau=0.25)
    state = state_of(config)
    before = [p.clone() for p in state.target.parameters()]
    dqn.step(state, whole(memory_of(two(), [0, 0], [-1, -1], [1, -1])), config)
    now = zip(state.target.parameters(), before, state.network.parameters(), strict=True)
    for slow, old, online in now:
        assert torch.allclose(slow, 0.75 * old + 0.25 * online, atol=1e-6)


def chain():
    """Five states; action 0 goes on by one, action 1 by two; the last step costs nothing.

    Returns observations with two candidates each, and the transitions of both actions in all.
    """
    rng = np.random.default_rng(1)
    states = [observation(rng, candidates=2) for _ in range(5)]
    rows = [(s, a, s + 1 + a if s + 1 + a < 5 else -1) for s in range(5) for a in range(2)]
    seen = [states[s] for s, _, _ in rows]
    # A successor is any transition's observation of that state.
    after = [-1 if t < 0 else 2 * t for _, _, t in rows]
    reward = [0.0 if t < 0 else -1.0 for _, _, t in rows]
    return states, memory_of(seen, [a for _, a, _ in rows], reward, after)


def chain_values(discount=0.9):
    q = np.zeros((5, 2))
    for s in reversed(range(5)):
        for a in range(2):
            t = s + 1 + a
            q[s, a] = 0 if t >= 5 else -1 + discount * q[t].max()
    return q


@pytest.mark.parametrize("space", ["plain", "log"])
def test_it_finds_the_values_of_a_chain(space):
    config = dataclasses.replace(QUICK, lr=1e-2, tau=0.1, space=space)
    states, memory = chain()
    state = dqn.init(NETWORK, config, Streams(2))
    for _ in range(250):
        dqn.step(state, memory.sample(16, state.rng, "gasse19"), config)
    with torch.no_grad():
        q = state.network(collate(states, "gasse19")).view(5, 2)
    q = (dqn.from_log(q) if space == "log" else q).numpy()
    assert np.abs(q - chain_values()).max() < 0.03
    # In state 4 both actions end; elsewhere two steps at once are better or as good.
    better = chain_values()[:, 1] > chain_values()[:, 0] + 1e-9
    assert better.sum() == 2
    assert (q.argmax(1)[better] == 1).all()


def test_rewards_alone_are_regressed_without_successors():
    rng = np.random.default_rng(3)
    seen = [observation(rng) for _ in range(8)]
    sizes = np.array([1, 2, 3, 5, 20, 60, 150, 400.0])
    memory = memory_of(seen, np.zeros(8, int), -sizes, np.full(8, -1))
    config = dataclasses.replace(QUICK, lr=1e-2, space="log")
    state = dqn.init(NETWORK, config, Streams(4))
    for _ in range(200):
        dqn.step(state, whole(memory), config)
    with torch.no_grad():
        graphs = collate(seen, "gasse19")
        q = dqn.from_log(graphs.chosen(state.network(graphs), torch.zeros(8, dtype=torch.int64)))
    assert np.allclose(-q.numpy(), sizes, rtol=0.1)


def test_errors_become_priorities():
    states, _ = chain()
    memory = memory_of(states, np.zeros(5, int), [-1, -1, -1, -1, -9.0], np.full(5, -1),
                       priorities=Priorities(alpha=1.0))  # fmt: skip
    state = dqn.init(NETWORK, QUICK, Streams(5))
    info = dqn.step(state, whole(memory), QUICK)
    memory.update(np.arange(5), info.error)
    spots = memory.sample(1000, state.rng, "gasse19").spot
    wanted = np.abs(info.error) / np.abs(info.error).sum()
    assert np.abs(np.bincount(spots, minlength=5) / 1000 - wanted).max() <= 2 / 1000


@pytest.mark.parametrize("k", [5, 8])
def test_k_steps_saved_and_k_more_are_2k(tmp_path, no_global_state, k):
    _, memory = chain()

    def trained(state):
        for _ in range(k):
            dqn.step(state, memory.sample(16, state.rng, "gasse19"), QUICK)
        return state

    straight = trained(trained(dqn.init(NETWORK, QUICK, Streams(6))))
    half = trained(dqn.init(NETWORK, QUICK, Streams(6)))
    tensors, tree = flatten_tree(half.state_dict())
    save_checkpoint(tmp_path, k, tensors, {"tree": tree})
    saved = load_checkpoint(tmp_path)
    again = dqn.init(NETWORK, QUICK, Streams(7))
    again.load_state_dict(unflatten_tree(saved.tensors, saved.state["tree"]))
    trained(again)
    assert again.done == straight.done == 2 * k
    for name in ("network", "target"):
        pairs = zip(getattr(again, name).parameters(), getattr(straight, name).parameters(),
                    strict=True)  # fmt: skip
        assert all(torch.equal(a, b) for a, b in pairs)


def test_what_is_not_finite_stops_it_before_the_step():
    state, seen = state_of(), two()
    batch = whole(memory_of(seen, [0, 1], [-1, -1], [-1, -1]))
    before = [p.detach().clone() for p in state.network.parameters()]
    with pytest.raises(NumericsError, match="loss of Q is nan after 0 steps"):
        dqn.step(state, batch._replace(reward=torch.tensor([torch.nan, 0])), QUICK)
    assert state.done == 0
    for p, old in zip(state.network.parameters(), before, strict=True):
        assert torch.equal(p, old)


@pytest.mark.parametrize("edges", ["affine", "legacy"])
@pytest.mark.parametrize("features", ["gasse19", "retro43"])
@pytest.mark.parametrize("head", ["plain", "dueling"])
def test_every_architecture_learns(features, edges, head):
    network = NetworkConfig(width=8, features=features, edges=edges, head=head)
    memory = memory_of(two(), [2, 1], [-3.0, -1.0], [1, -1])
    state = dqn.init(network, QUICK, Streams(9))
    config = dataclasses.replace(QUICK, lr=1e-2)
    before = [p.detach().clone() for p in state.parameters]
    batch = memory._at(np.arange(2), np.ones(2), features)
    loss = [dqn.step(state, batch, config).loss for _ in range(80)]
    assert loss[-1] < 0.5 * loss[0]
    still = [torch.equal(p, b) for p, b in zip(state.parameters, before, strict=True)]
    # A coefficient normalised alone is zero, and so is the slope along its gain.
    assert sum(still) <= (edges == "legacy")


def test_the_learning_rate_is_that_of_the_step():
    moved = []
    for lr in (1e-4, 1e-2):
        state = dqn.init(NETWORK, QUICK, Streams(8))
        before = state.network.head[4].bias.detach().clone()
        batch = whole(memory_of(two(), [0, 1], [-1, -1], [-1, -1]))
        dqn.step(state, batch, dataclasses.replace(QUICK, lr=lr))
        moved.append(float((state.network.head[4].bias - before).detach().abs()))
    # Adam's first step has the length of the rate.
    assert moved == pytest.approx([1e-4, 1e-2], rel=0.01)


def test_huber_is_torchs():
    x = torch.tensor([0.3, -4.0])
    assert functional.smooth_l1_loss(x, torch.zeros(2), reduction="none").tolist() == (
        pytest.approx([0.045, 3.5])
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch", 0), ("lr", 0.0), ("clip", -1.0), ("tau", 0.0), ("loss", "l1"), ("space", "exp")],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ConfigError, match=name):
        DQNConfig(**{name: value})
