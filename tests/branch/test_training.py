"""Learning to branch: what is learnt from, and that a fit goes on as if it had not been stopped."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from esscher.branch.config import (
    METHODS,
    Budget,
    Exploration,
    Imitation,
    TrainConfig,
    configuration,
)
from esscher.branch.instances.collection import generate
from esscher.branch.instances.set_cover import SetCover
from esscher.branch.learners.dqn import DQNConfig
from esscher.branch.measuring import measured, policy_of
from esscher.branch.network import NetworkConfig
from esscher.branch.playing import PlayTask, Setting, play
from esscher.branch.problems import Drawn
from esscher.branch.returns import size_targets
from esscher.branch.setup import Setup, solve_with
from esscher.branch.trainers import make_trainer, transitions_of
from esscher.branch.training import POLICY, fit
from esscher.branch.tree import Fate, SearchTree
from esscher.errors import ConfigError
from esscher.kit.runs.folder import Run
from esscher.kit.scale.pool import SerialPool, open_pool

SMALL = {
    "problem": "setcover-100x100",
    "network__width": 8,
    "budget__episodes": 10,
    "budget__minutes": math.inf,
    "budget__validation": 2,
}
Q_METHODS = ("retro", "fmsts", "fmsts_path", "original")


def small(method, **changes):
    own = {"exploration__warm_up": 4} if method in Q_METHODS else {}
    own |= {"imitation__samples": 12, "imitation__chance": 1.0} if method == "imitation" else {}
    own |= {"cloning__stop": 2, "budget__episodes": 30} if method == "imitation" else {}
    return configuration(method, **{**SMALL, **own, **changes})


def hand_tree():
    """Decisions at 0 (root), 1, 2 and 4; node 2 closes, node 4 is pruned later."""
    fate = [Fate.BRANCHED] * 3 + [Fate.INFEASIBLE, Fate.BRANCHED, Fate.CUTOFF, Fate.CUTOFF]
    fate += [Fate.CUTOFF, Fate.CUTOFF]
    parent = [-1, 0, 0, 1, 1, 2, 2, 4, 4]
    decision = [0, 1, 2, -1, 3, -1, -1, -1, -1]
    n = len(parent)
    bound = np.array([1.0, 2.0, 3.0, np.inf, 4.0, np.inf, np.inf, 4.0, 4.0])
    return SearchTree(
        np.array(parent), bound, bound, np.array(fate), np.zeros(n, int), np.ones(n, int),
        np.zeros(n), np.array([0, 1, 1, 2, 2, 2, 2, 3, 3]), np.array(decision),
        np.array([False, False, True] + [False] * 6), ("x",), True, np.arange(1, n + 1),
    )  # fmt: skip


def test_what_each_method_takes_from_a_tree():
    tree, rng = hand_tree(), np.random.default_rng(0)

    def rows(method, **changes):
        found = transitions_of(small(method, **changes), tree, rng)
        return list(zip(*(part.tolist() for part in found), strict=True))

    # Root, 1, 4 (the greatest bound): the last earns what the first did, so it is dropped.
    assert rows("retro", n_step=1) == [(0, -1.0, 1, 0.99), (1, -1.0, 3, 0.99), (2, 0.0, -1, 0.0)]
    assert rows("fmsts") == [(0, -4.0, -1, 0.0), (1, -2.0, -1, 0.0), (2, -1.0, -1, 0.0),
                             (3, -1.0, -1, 0.0)]  # fmt: skip
    assert rows("original", n_step=1) == [
        (0, -1.0, 1, 0.99), (1, -1.0, 2, 0.99), (2, -1.0, 3, 0.99), (3, 0.0, -1, 0.0)
    ]  # fmt: skip
    # The leaf visited first is 2, then 4.
    assert rows("fmsts_path", n_step=1) == [
        (0, 0.0, 2, 0.99), (2, -2.0, -1, 0.0), (1, 0.0, 3, 0.99), (3, -2.0, -1, 0.0)
    ]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_from_what_it_plays(method):
    config = small(method)
    result = fit(config, seed=1)
    assert result.history[-1]["step"] >= 10 or method == "imitation"
    assert result.history[-1]["updates"] > 0
    start = make_trainer(config, 1).network.state_dict()
    trained = result.network.state_dict()
    if result.history[-1]["nodes_gmean"] < result.history[0]["nodes_gmean"]:
        assert any(not torch.equal(start[k], trained[k]) for k in start)
    problem = Drawn(SetCover(100, 100), 1, 0)
    assert solve_with(problem.model(), result.policy(), Setup(), 0).status == "optimal"


@pytest.mark.parametrize("method", ["retro", "tmdp", "imitation"])
def test_a_fit_that_was_killed_goes_on_bit_for_bit(method, tmp_path):
    class KillError(Exception):
        pass

    def kill(row):
        if row["step"] >= 3:
            raise KillError

    config = small(method, cloning__stop=3) if method == "imitation" else small(method)
    straight = fit(config, seed=2)
    options = replace(config)
    with Run.create(tmp_path, "branch", "fit", "t", config=options, seed=2) as run:
        folder = run.path
        with pytest.raises(KillError):
            fit(config, seed=2, run=run, on_row=kill)
    with Run.open(folder, options) as run:
        again = fit(config, seed=2, run=run)
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    clock = {"minutes", "log2_nodes"}
    rows = [
        [{k: v for k, v in row.items() if k not in clock} for row in result.history]
        for result in (straight, again)
    ]
    assert rows[0] == rows[1]
    assert (folder / POLICY).is_dir()


def test_the_same_seed_gives_the_same_fit_and_another_one_another():
    fits = [fit(small("retro"), seed=seed).network.state_dict() for seed in (3, 3, 4)]
    assert all(torch.equal(fits[0][k], fits[1][k]) for k in fits[0])
    assert any(not torch.equal(fits[0][k], fits[2][k]) for k in fits[0])


def test_workers_play_a_round_ahead_and_give_the_same_fit_every_time():
    config = small("retro", budget__episodes=6)
    with open_pool("processes:2") as pool:
        fits = [fit(config, seed=3, pool=pool).network.state_dict() for _ in range(2)]
    assert all(torch.equal(fits[0][k], fits[1][k]) for k in fits[0])


def played(method, number=3, chance=0.1, **changes):
    config = small(method, **changes)
    draws = {"imitation": "expert", "tmdp": "softmax"}.get(method, "greedy")
    setting = Setting(
        config.network, "bare", config.selector, config.budget.max_decisions, 0, draws
    )
    weights = make_trainer(config, 0).network.state_dict()
    problem = Drawn(SetCover(165, 230), 5, number)
    return play(PlayTask(setting, problem, number, chance, weights))


def test_an_episode_remembers_every_decision():
    episode = played("retro")
    assert episode.decisions > 3
    assert len(episode.observations) == len(episode.chosen) == episode.decisions
    assert (episode.tree.decision >= 0).sum() == episode.decisions
    assert all(0 <= c < len(o.candidates) for c, o in zip(episode.chosen, episode.observations,
                                                          strict=True))  # fmt: skip
    again = played("retro")
    np.testing.assert_array_equal(episode.chosen, again.chosen)
    np.testing.assert_array_equal(episode.tree.bound, again.tree.bound)


def test_chance_decides_how_much_of_it_is_random():
    """All greedy decisions are the network's, and uniform ones rarely are."""
    config = small("retro")
    network = make_trainer(config, 0).network
    policy = policy_of(network)

    def share(chance):
        hits = total = 0
        for number in range(3, 9):
            episode = played("retro", number, chance)
            for seen, place in zip(episode.observations, episode.chosen, strict=True):
                if len(seen.candidates) > 4:
                    hits += int(np.argmax(policy.scorer.scores(seen))) == place
                    total += 1
        return hits / total

    assert share(0.0) == 1.0
    assert share(1.0) < 0.4


def test_a_cap_on_decisions_leaves_an_open_tree_whose_finished_part_is_learnt_from():
    episode = played("retro", number=3, budget__max_decisions=6)
    assert episode.decisions == 6
    assert not episode.tree.complete
    assert len(size_targets(episode.tree).decision) < 6


def test_an_expert_is_asked_as_often_as_said():
    always = played("imitation", chance=1.0)
    never = played("imitation", chance=0.0)
    assert not never.observations
    assert 0 < len(always.observations) <= always.decisions
    for seen, scores in zip(always.observations, always.scores, strict=True):
        assert scores.shape == seen.candidates.shape


def test_instances_that_need_no_branching_are_given_up():
    with pytest.raises(ConfigError, match="50 instances in a row"):
        fit(small("retro", problem="setcover-100x100", settings="scip", budget__episodes=200))


def test_files_are_learnt_from_and_a_third_of_them_is_held_out(tmp_path):
    generate(SetCover(100, 100), tmp_path, 9, 7)
    result = fit(small("retro", problem=str(tmp_path), budget__episodes=8))
    assert result.history[-1]["step"] == 8
    few = tmp_path / "few"
    generate(SetCover(100, 100), few, 5, 7)
    with pytest.raises(ConfigError, match="needs 6 at least"):
        fit(small("retro", problem=str(few)))


def test_measuring_is_the_geometric_mean_of_nodes():
    network = make_trainer(small("retro"), 0).network
    problems = [Drawn(SetCover(165, 230), 5, i) for i in range(3)]
    estimate, mean = measured(network, problems, "bare", SerialPool())
    nodes = [solve_with(p.model(), policy_of(network), Setup("bare"), 0).nodes for p in problems]
    assert mean == pytest.approx(np.exp(np.log(nodes).mean()))
    assert estimate.mean == pytest.approx(np.log2(nodes).mean())


def test_a_budget_of_minutes_is_kept():
    time = [0.0]

    def clock():
        time[0] += 0.5
        return time[0]

    result = fit(
        small("retro", budget__episodes=None, budget__minutes=2.0, budget__every=0.5), clock=clock
    )
    assert 2.0 <= result.history[-1]["minutes"] < 2.6
    assert len(result.history) >= 4


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: configuration("retrp"), "retro"),
        (lambda: configuration("retro", budgt__minutes=3), "budget"),
        (lambda: configuration("retro", budget__minuts=3), "minutes"),
        (lambda: Budget(minutes=0), "minutes"),
        (lambda: Budget(minutes=math.inf), "episodes"),
        (lambda: Budget(validation=1), "validation"),
        (lambda: Exploration(first=1.5), "first"),
        (lambda: Exploration(until=0.0), "until"),
        (lambda: Exploration(per_step=0), "per_step"),
        (lambda: Imitation(samples=5), "samples"),
        (lambda: TrainConfig(gamma=2.0), "gamma"),
        (lambda: TrainConfig("imitation"), "logit"),
        (lambda: TrainConfig(network=NetworkConfig(output="logit")), "value"),
    ],
)
def test_settings_out_of_range_are_named(make, named):
    with pytest.raises(ConfigError, match=named):
        make()


def test_the_published_configuration_is_the_released_one():
    config = configuration("retro", published=True)
    assert config.dqn == DQNConfig(5e-5, 128, 1e-4, 10.0)
    assert (config.network.features, config.network.width, config.network.edges) == (
        "retro43", 64, "legacy"
    )  # fmt: skip
    assert config.exploration.warm_up == 20_000
    assert config.problem == "setcover-500x1000"
    assert configuration("imitation", published=True).network.output == "logit"


@pytest.mark.slow
def test_retro_learns_and_imitation_comes_near_the_expert():
    """About four minutes of one core: far below chance, which needs 22 nodes here."""
    retro = fit(configuration("retro", budget__minutes=2.0, budget__every=0.5))
    best = min(row["nodes_gmean"] for row in retro.history)
    assert best < 0.75 * retro.history[0]["nodes_gmean"]
    imitation = fit(configuration("imitation", imitation__chance=0.3, imitation__samples=600,
                                  budget__minutes=2.0, budget__every=0.5))  # fmt: skip
    assert (
        min(row["nodes_gmean"] for row in imitation.history)
        < 0.65 * retro.history[0]["nodes_gmean"]
    )
