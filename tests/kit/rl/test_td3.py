"""TD3 against hand-made numbers; the same twice; k steps and k more are 2k."""

import hashlib

import pytest
import torch
from torch import nn

from esscher.errors import ConfigError, NumericsError
from esscher.kit.rl import td3
from esscher.kit.rl.replay import Replay
from esscher.kit.rl.td3 import Hooks, TD3Config
from esscher.kit.runs.checkpoint import load_checkpoint, save_checkpoint
from esscher.kit.runs.seeds import Streams
from esscher.kit.runs.tree import flatten_tree, unflatten_tree

NONE = Hooks()
SMALL = TD3Config(width=16, batch=32)


def replay(n=200, d=3, m=2, seed=0):
    rng = torch.Generator().manual_seed(seed)
    obs, following = (torch.randn(n, d, generator=rng) for _ in range(2))
    action = torch.rand(n, m, generator=rng) * 2 - 1
    reward = -action.square().sum(1) + obs[:, 0]
    return Replay.of(obs, action, reward, following, torch.rand(n, generator=rng) < 0.2)


def trained(state, steps, data=None, config=SMALL, hooks=NONE):
    data = replay() if data is None else data
    return [
        td3.step(state, data.sample(config.batch, state.rng), config, hooks) for _ in range(steps)
    ]


def digest(state):
    tensors, tree = flatten_tree(state.state_dict())
    found = hashlib.sha256(repr(tree).encode())
    for name in sorted(tensors):
        found.update(tensors[name].numpy().tobytes())
    return found.hexdigest()


def test_targets_are_those_of_a_hand_computation():
    """Linear networks whose outputs are known, noise switched off and on."""
    data = Replay.of(
        torch.tensor([[1.0], [1.0]]),
        torch.tensor([[0.0], [0.0]]),
        torch.tensor([3.0, 3.0]),
        torch.tensor([[2.0], [2.0]]),
        torch.tensor([False, True]),
    )
    state = td3.init(1, 1, TD3Config(width=4), Streams(0))
    state.actor_target.body = nn.Sequential(nn.Linear(1, 1, bias=False))
    state.critic_target.first = nn.Sequential(nn.Linear(2, 1, bias=False))
    state.critic_target.second = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        state.actor_target.body[0].weight.fill_(0.25)
        state.critic_target.first[0].weight.copy_(torch.tensor([[1.0, 2.0]]))
        state.critic_target.second[0].weight.copy_(torch.tensor([[1.5, 0.0]]))
    batch = data.at(torch.tensor([0, 1]))
    action = float(torch.tensor(0.5).tanh())
    lower = min(2 + 2 * action, 3.0)
    exact = TD3Config(gamma=0.9, policy_noise=0.0)
    assert td3.td_target(state, batch, exact).tolist() == pytest.approx([3 + 0.9 * lower, 3.0])
    # Noise is clipped, and so is the action: both ends of the target are known.
    wild = TD3Config(gamma=0.9, policy_noise=1e6, noise_clip=0.1)
    many = data.at(torch.zeros(500, dtype=torch.long))
    found = td3.td_target(state, many, wild)
    assert float(found.min()) == pytest.approx(3 + 0.9 * (2 + 2 * (action - 0.1)), rel=1e-5)
    assert float(found.max()) == pytest.approx(3 + 0.9 * 3.0, rel=1e-5)
    far = TD3Config(gamma=0.9, policy_noise=1e6, noise_clip=9.0)
    assert float(td3.td_target(state, many, far).min()) == pytest.approx(3.0, rel=1e-5)
    penal = Hooks(target_penalty=lambda view: torch.full((len(view.action),), 0.5))
    found = td3.td_target(state, batch, exact, penal).tolist()
    assert found == pytest.approx([3 + 0.9 * (lower - 0.5), 3.0])


def test_one_critic_step_is_adam_on_the_mean_squared_errors():
    state, twin = (td3.init(3, 2, SMALL, Streams(1)) for _ in range(2))
    batch = replay().at(torch.arange(32))
    target = td3.td_target(twin, batch, SMALL)
    info = td3.step(state, batch, SMALL)
    first, second = twin.critic(batch.pair)
    loss = nn.functional.mse_loss(first, target) + nn.functional.mse_loss(second, target)
    assert info.critic_loss == pytest.approx(loss.item())
    assert info.actor_loss is None
    optimiser = torch.optim.Adam(twin.critic.parameters(), lr=SMALL.lr_critic)
    loss.backward()
    optimiser.step()
    for a, b in zip(state.critic.parameters(), twin.critic.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-7)


def test_the_actor_sees_the_first_critic_only_and_leaves_the_critics_alone():
    state = td3.init(3, 2, SMALL, Streams(2))
    state.done = 1
    seen = {}

    def loss(view):
        seen["q"], seen["a"] = view.q.detach(), view.action.detach()
        return -view.q.mean()

    batch = replay().at(torch.arange(32))
    td3.step(state, batch, SMALL, Hooks(actor_loss=loss))
    assert torch.equal(seen["q"], state.critic.q1(torch.cat([batch.obs, seen["a"]], 1)).detach())
    before = [p.detach().clone() for p in state.critic.parameters()]
    grads = [None if p.grad is None else p.grad.clone() for p in state.critic.parameters()]
    td3._actor_step(state, batch, Hooks())
    for p, old, slope in zip(state.critic.parameters(), before, grads, strict=True):
        assert torch.equal(p, old)
        assert torch.equal(p.grad, slope)


def test_the_actor_climbs_the_value():
    state = td3.init(3, 2, SMALL, Streams(3))
    batch = replay().at(torch.arange(200))

    def value():
        with torch.no_grad():
            return float(state.critic.q1(torch.cat([batch.obs, state.actor(batch.obs)], 1)).mean())

    before = value()
    for _ in range(50):
        td3._actor_step(state, batch, Hooks())
    assert value() > before + 0.002


def test_targets_follow_by_tau_every_second_step():
    config = TD3Config(width=16, batch=32, tau=0.25)
    state = td3.init(3, 2, config, Streams(4))
    start = [p.clone() for p in state.critic_target.parameters()]
    trained(state, 1, config=config)
    for p, old in zip(state.critic_target.parameters(), start, strict=True):
        assert torch.equal(p, old)
    infos = trained(state, 1, config=config)
    assert infos[0].actor_loss is not None
    now = zip(state.critic_target.parameters(), start, state.critic.parameters(), strict=True)
    for p, old, online in now:
        assert torch.allclose(p, 0.75 * old + 0.25 * online, atol=1e-6)


def test_it_learns_a_bandit():
    """Every episode ends at once: the value is the reward, the best action 0."""
    data = replay(2000)
    data.rows[:, -1] = 0
    config = TD3Config(width=32, batch=64, lr_actor=3e-3, lr_critic=3e-3)
    state = td3.init(3, 2, config, Streams(5))
    trained(state, 600, data, config)
    with torch.no_grad():
        assert float(state.actor(torch.randn(200, 3, generator=state.rng)).abs().mean()) < 0.15


def test_the_same_seed_gives_the_same_weights(no_global_state):
    first, second, other = (td3.init(3, 2, SMALL, Streams(s)) for s in (7, 7, 8))
    for state in (first, second, other):
        trained(state, 20)
    assert digest(first) == digest(second) != digest(other)


@pytest.mark.parametrize("k", [6, 7])
def test_k_steps_saved_and_k_more_are_2k(tmp_path, k):
    whole = td3.init(3, 2, SMALL, Streams(9))
    trained(whole, 2 * k)
    state = td3.init(3, 2, SMALL, Streams(9))
    trained(state, k)
    tensors, tree = flatten_tree(state.state_dict())
    save_checkpoint(tmp_path, k, tensors, {"tree": tree})
    saved = load_checkpoint(tmp_path)
    again = td3.init(3, 2, SMALL, Streams(10))
    again.load_state_dict(unflatten_tree(saved.tensors, saved.state["tree"]))
    trained(again, k)
    assert digest(again) == digest(whole)


def test_what_is_not_finite_stops_it():
    state = td3.init(3, 2, SMALL, Streams(11))
    data = replay()
    data.rows[:, -2] = torch.inf
    before = [p.detach().clone() for p in state.critic.parameters()]
    with pytest.raises(NumericsError, match="critic loss is inf after 0 steps"):
        td3.step(state, data.at(torch.arange(32)), SMALL)
    for p, old in zip(state.critic.parameters(), before, strict=True):
        assert torch.equal(p, old)
    state.done = 1
    hooks = Hooks(actor_loss=lambda view: view.q.mean() * torch.nan)
    with pytest.raises(NumericsError, match="actor loss is nan"):
        td3.step(state, replay().at(torch.arange(32)), SMALL, hooks)


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch", 0), ("lr_actor", 0.0), ("gamma", 1.0), ("tau", 0.0), ("policy_noise", -1.0)],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ConfigError, match=name):
        TD3Config(**{name: value})
