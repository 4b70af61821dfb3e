"""The learners: parts that can be exchanged, determinism, resuming, and what is refused."""

import hashlib
from dataclasses import replace

import pytest
import torch

from esscher.errors import ConfigError, NumericsError
from esscher.kit.rl.normalise import Standardiser
from esscher.kit.runs.folder import Run
from esscher.kit.runs.tree import flatten_tree
from esscher.offline import CONFIGURATIONS, configuration, fit
from esscher.offline.prepare import prepare
from esscher.offline.problems.bandit import bandit_data, bandit_density, bandit_scores
from esscher.offline.problems.point_mass import point_mass_data
from esscher.offline.training import make_learner, train

TINY = {"td3__width": 16, "td3__batch": 32, "density__width": 16, "density__steps": 60}
VARIANTS = {
    **{name: {} for name in CONFIGURATIONS},
    "td3_rkl within_var": {"weight": "within_var"},
    "td3_rkl dual": {"weight": "dual"},
    "td3_rkl penalty": {"critic_penalty": 0.1},
    "td3_rkl flow": {"density__kind": "flow"},
}


def tiny(variant, **changes):
    name = variant.split()[0]
    return configuration(name, **(TINY | {"steps": 24} | VARIANTS[variant] | changes))


@pytest.fixture(scope="module")
def dataset():
    return point_mass_data(episodes=30)


def digest(learner):
    tensors, tree = flatten_tree(learner.state_dict())
    found = hashlib.sha256(repr(tree).encode())
    for name in sorted(tensors):
        found.update(tensors[name].numpy().tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_learner_is_deterministic_and_resumes_bit_for_bit(variant, dataset, tmp_path):
    config = tiny(variant, warm_start=4 if tiny(variant).needs_density else 0)
    data = prepare(config, dataset, 0)
    whole = train(config, data, seed=1, every=12)
    assert digest(whole.learner) == digest(train(config, data, seed=1, every=12).learner)
    assert digest(whole.learner) != digest(train(config, data, seed=2, every=12).learner)
    run = Run.create(tmp_path, "offline", "fit", "x", config=config, seed=1)

    def interrupt(done, seen):
        if done == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, data, seed=1, every=12, run=run, on_step=interrupt)
    again = train(config, data, seed=1, every=12, run=run)
    assert digest(again.learner) == digest(whole.learner)
    assert again.history == whole.history


def test_configurations_are_what_their_papers_say():
    bc, rebrac, iql = (CONFIGURATIONS[name] for name in ("td3_bc", "rebrac", "iql"))
    assert (bc.alpha, bc.td3.batch, bc.td3.lr_actor, bc.td3.tau) == (2.5, 256, 3e-4, 0.005)
    assert (bc.regulariser, bc.weight, bc.critic_penalty) == ("mse", "none", 0)
    assert (rebrac.td3.lr_critic, rebrac.td3.batch, rebrac.td3.depth) == (1e-3, 1024, 3)
    assert rebrac.td3.critic_norm
    assert (iql.expectile, iql.temperature) == (0.7, 3.0)
    rkl = CONFIGURATIONS["td3_rkl"]
    assert (rkl.policy_std, rkl.density.components, rkl.density.std_floor) == (0.05, 8, 0.05)
    assert (rkl.weight, rkl.weight_beta, rkl.weight_range) == ("entropy", 1.0, (0.1, 10.0))


def test_the_actors_loss_of_td3_bc_is_the_published_one(dataset):
    config = tiny("td3_bc")
    data = prepare(config, dataset, 0)
    learner = make_learner(config, data, 0)
    batch = data.replay.at(torch.arange(64))
    action = learner.actor(batch.obs)
    q = learner.state.critic.q1(torch.cat([batch.obs, action], 1))
    view = type("View", (), {"action": action, "q": q, "batch": batch, "done": 0})
    found = learner._actor_loss(view)
    expected = -2.5 / q.abs().mean() * q.mean() + torch.nn.functional.mse_loss(action, batch.action)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_rebracs_penalty_is_on_the_next_action_and_never_across_an_end(dataset):
    config = tiny("rebrac")
    data = prepare(config, dataset, 0)
    learner = make_learner(config, data, 0)
    ends = (~data.next_known).nonzero().squeeze(1)
    rows = torch.cat([ends[:3], torch.arange(5)])
    batch = data.replay.at(rows)
    action = torch.zeros(len(rows), 2)
    view = type("View", (), {"action": action, "batch": batch})
    found = learner._target_penalty(view)
    expected = 0.01 * data.replay.at(rows + 1).action.square().sum(1)
    assert found[:3].tolist() == [0, 0, 0]
    assert torch.allclose(found[3:], expected[3:])


@pytest.fixture(scope="module")
def bandit():
    """The bandit with its true density, so that only the actor is judged."""
    dataset = bandit_data(2000)
    density = bandit_density(Standardiser.fit(dataset.transitions.obs))
    config = configuration("td3_rkl", td3__width=64, td3__batch=128, steps=500)
    return config, prepare(config, dataset, 0, density=density)


def locked(config, data, *, warm):
    """The share of narrow states in the better mode, from an actor that begins in the worse."""
    config = replace(config, warm_start=300 if warm else 0, alpha=1.0)
    learner = make_learner(config, data, 0)
    optimiser = torch.optim.Adam(learner.actor.parameters(), lr=1e-2)
    obs = torch.linspace(-2, 2, 200)[:, None]
    for _ in range(80):
        optimiser.zero_grad()
        (learner.actor(obs) + 0.6).square().mean().backward()
        optimiser.step()
    while learner.done < config.steps:
        learner.step()
    state = torch.linspace(-1, -0.02, 99)[:, None]
    action = learner.actor(data.standardiser(state)).detach()
    return float(((action - 0.6).abs() < 0.15).double().mean())


def test_a_warm_start_frees_an_actor_from_the_bad_mode(bandit):
    config, data = bandit
    assert locked(config, data, warm=False) < 0.5
    assert locked(config, data, warm=True) >= 0.95


def test_cloning_is_between_the_modes_and_the_reverse_kl_on_the_better(bandit):
    config, data = bandit
    kl = train(replace(config, warm_start=300, alpha=1.0), data, seed=0)
    bc = train(configuration("bc", td3__width=64, td3__batch=128, steps=500), data, seed=0)
    found, mean = (bandit_scores(r.policy.actor, data.standardiser) for r in (kl, bc))
    assert mean["narrow_ood"] == 1
    assert mean["narrow_return"] < 0.1
    assert found["narrow_ood"] <= 0.02
    assert found["narrow_return"] >= 0.97


@pytest.mark.parametrize("name", ["td3_bc", "td3_rkl", "iql", "cql"])
def test_a_loss_that_is_not_finite_stops_with_its_step(name, dataset):
    config = tiny(name)
    data = prepare(config, dataset, 0)
    data.replay.rows[:, -2] = torch.nan
    with pytest.raises(NumericsError, match="critic loss is nan after 0 steps"):
        train(config, data)


def test_small_data_are_warned_about():
    small = point_mass_data(episodes=2)
    with pytest.warns(UserWarning, match="rows repeat within a batch"):
        fit(configuration("bc", td3__width=8, steps=2), small)


def test_a_constant_reward_near_zero_keeps_the_scale_finite(dataset):
    rows = replace(dataset.transitions, reward=dataset.transitions.reward * 0)
    result = fit(tiny("td3_bc"), replace(dataset, transitions=rows))
    assert result.history[-1]["lambda"] <= 250


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("td3_rlk", {}, "did you mean 'td3_rkl'"),
        ("td3_bc", {"alhpa": 1.0}, "did you mean 'alpha'"),
        ("td3_bc", {"td3__widht": 1}, "did you mean 'width'"),
        ("td3_bc", {"alpha": -1.0}, "alpha must be >= 0"),
        ("td3_bc", {"weight": "entropy"}, "needs the density"),
        ("td3_rkl", {"weight": "within_var", "density__kind": "cvae"}, "with components"),
        ("td3_rkl", {"weight_range": (2.0, 3.0)}, "must enclose 1"),
        ("td3_rkl", {"density__held_out": 0.9}, "held_out"),
        ("bc", {"top_share": 0.0}, "top_share"),
        ("iql", {"expectile": 0.3}, "expectile"),
        ("cql", {"conservative_draws": 0}, "conservative_draws must be >= 1"),
        ("cql", {"conservative_weight": -1.0}, "conservative_weight must be >= 0"),
    ],
)
def test_settings_that_cannot_be_are_named(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        configuration(name, **changes)
