"""The environment: Gymnasium's own checks, the solve underneath, and how it is left."""

import gc
import resource
import subprocess
import sys
import warnings

import numpy as np
import pytest
from greenlet import greenlet
from gymnasium.utils.env_checker import check_env

from esscher.branch.env import BranchingEnv, GraphSize
from esscher.branch.observation.base import Observation
from esscher.branch.observation.observer import make_observer
from esscher.branch.recorder import Recorder
from esscher.branch.solve import solve
from esscher.errors import ConfigError, ShapeError
from tests.branch.problems import covering, model_of

SIZE = GraphSize(rows=120, columns=150, edges=2000)


class Values:
    """An observer of LP values only."""

    def begin(self, model):
        self.columns = model.getLPColsData()

    def observe(self, focus):
        columns = np.zeros((len(self.columns), 19), dtype=np.float32)
        columns[:, 8] = [c.getPrimsol() for c in self.columns]
        picked = [v.getCol().getLPPos() for v in focus.variables]
        none = np.zeros(0, dtype=np.int32)
        return Observation(
            np.zeros((120, 5), dtype=np.float32), columns, np.zeros(0, dtype=np.float32),
            none, none, np.zeros(0, dtype=np.float32), np.array(picked, dtype=np.int32),
        )  # fmt: skip


def problem(number):
    return covering(120, 150, 0.05, number).to_scip()


def environment(**changes):
    return BranchingEnv(problem, SIZE, Values(), **{"instances": 30, **changes})


def under_way():
    """Solves that are waiting for an action."""
    return [x for x in gc.get_objects() if type(x) is greenlet and x and x.parent is not None]


def played(env, rng, **options):
    """Rewards of an episode of random actions, and its last step."""
    _, info = env.reset(**options)
    rewards = []
    while True:
        action = rng.choice(np.flatnonzero(info["action_mask"]))
        _, reward, terminated, truncated, info = env.step(int(action))
        rewards.append(reward)
        if terminated or truncated:
            return rewards, terminated, truncated, info


def test_gymnasium_accepts_it():
    env = environment(invalid="ignore")
    with warnings.catch_warnings():
        # It recommends boxes within finite bounds, and making environments by name.
        warnings.simplefilter("ignore")
        check_env(env, skip_render_check=True)
    env.close()


def test_an_action_that_is_no_candidate_can_cost_a_step():
    env = environment(invalid="ignore")
    before, info = env.reset(options={"instance": 13})
    wrong = int(np.flatnonzero(info["action_mask"] == 0)[0])
    after, reward, terminated, truncated, info = env.step(wrong)
    assert (reward, terminated, truncated, info["invalid"]) == (-1.0, False, False, True)
    np.testing.assert_array_equal(before["columns"], after["columns"])
    env.close()


def test_an_episode_is_the_solve_of_its_instance():
    env = environment()
    rng = np.random.default_rng(0)

    class Mirror:
        """Chooses among candidates as the episode's generator does."""

        def __init__(self):
            self.rng, self.look = np.random.default_rng(0), Values()

        def begin(self, model):
            self.look.begin(model)

        def choose(self, focus):
            candidates = self.look.observe(focus).candidates
            action = self.rng.choice(np.sort(candidates))
            return int(np.flatnonzero(candidates == action)[0])

    rewards, terminated, _, info = played(env, rng, options={"instance": 13})
    model = model_of(covering(120, 150, 0.05, 13))
    recorder = Recorder()
    result = solve(model, Mirror(), recorder=recorder)
    assert terminated
    assert len(rewards) == result.decisions > 2
    assert info["result"].nodes == result.nodes
    assert info["result"].objective == result.objective
    assert rewards == [-1.0] * (result.decisions - 1) + [0.0]
    env.close()


def test_the_reward_of_fathoming_is_that_of_the_recorded_tree():
    env = environment(reward="fathomed")
    zeros = 0
    for number in (4, 5, 7, 12, 13):
        rewards, _, _, info = played(
            env, np.random.default_rng(number), options={"instance": number}
        )
        tree = info["result"].tree
        assert rewards == [0.0 if c else -1.0 for c in tree.closed[tree.visited]]
        zeros += rewards.count(0.0)
    assert zeros > 8
    env.close()


def test_the_tree_is_kept_where_it_is_asked_for():
    for record in (False, True):
        env = environment(record=record)
        rewards, _, _, info = played(env, np.random.default_rng(0), options={"instance": 13})
        assert rewards[:2] == [-1.0, -1.0]
        tree = info["result"].tree
        assert (tree is not None) == record
        env.close()
    assert (tree.decision >= 0).sum() == info["result"].decisions


def test_observations_share_nothing():
    env = environment()
    env.observer = make_observer()
    first, info = env.reset(options={"instance": 13})
    kept = {name: part.copy() for name, part in first.items()}
    second, *_ = env.step(int(info["action_mask"].argmax()))
    for name in ("edge_row", "edge_column", "edge_value"):
        np.testing.assert_array_equal(first[name], second[name])
        second[name][:] = 7
    third, *_ = env.step(int(env.graph.candidates[0]))
    for name in ("edge_row", "edge_column", "edge_value"):
        np.testing.assert_array_equal(first[name], third[name])
    for name, part in kept.items():
        np.testing.assert_array_equal(first[name], part)
    env.close()


def test_equal_seeds_give_equal_episodes():
    env = environment()
    runs = []
    for seed in (3, 3, 4):
        obs, info = env.reset(seed=seed)
        runs.append((info["instance"], obs["columns"].copy()))
    assert runs[0][0] == runs[1][0] != runs[2][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    env.close()


def test_a_cap_truncates():
    env = environment(max_decisions=3)
    rewards, terminated, truncated, info = played(
        env, np.random.default_rng(0), options={"instance": 13}
    )
    assert (len(rewards), terminated, truncated) == (3, False, True)
    assert rewards == [-1.0, -1.0, -1.0]
    assert info["result"].status == "userinterrupt"
    env.close()


def test_leaving_in_the_middle_leaves_nothing_behind():
    env = environment()
    env.reset(seed=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(150):
        env.reset(options={"instance": 13})
        env.step(int(env.graph.candidates[0]))
    assert len(under_way()) == 1
    env.close()
    gc.collect()
    assert not under_way()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024


@pytest.mark.slow
def test_a_thousand_resets_leak_nothing():
    env = environment()
    for _ in range(50):
        env.reset(options={"instance": 13})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        env.reset(options={"instance": 13})
        env.step(int(env.graph.candidates[0]))
    env.close()
    assert not under_way()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024


def test_an_environment_that_is_dropped_ends_its_solve():
    env = environment()
    env.reset(seed=0)
    assert len(under_way()) == 1
    del env
    gc.collect()
    assert not under_way()


def test_a_process_may_end_in_the_middle_of_an_episode():
    script = """
from tests.branch.test_env import environment
env = environment()
_, info = env.reset(options={"instance": 13})
env.step(int(info["action_mask"].argmax()))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_two_environments_take_turns():
    first, second, alone = environment(), environment(), environment()
    infos = [env.reset(options={"instance": 13})[1] for env in (first, second)]
    _, info = alone.reset(options={"instance": 13})
    for _ in range(4):
        action = int(info["action_mask"].argmax())
        _, reward, *_, info = alone.step(action)
        for i, env in enumerate((first, second)):
            _, found, *_, infos[i] = env.step(action)
            assert found == reward
            np.testing.assert_array_equal(infos[i]["action_mask"], info["action_mask"])
    second.close()
    first.step(int(infos[0]["action_mask"].argmax()))
    first.close()
    alone.close()
    assert not under_way()


def test_an_interrupt_while_scip_works_comes_out_of_the_step():
    class Pressing(Values):
        def observe(self, focus):
            if focus.step == 2:
                raise KeyboardInterrupt
            return super().observe(focus)

    env = BranchingEnv(problem, SIZE, Pressing(), instances=30)
    env.reset(options={"instance": 13})
    env.step(int(env.graph.candidates[0]))
    with pytest.raises(KeyboardInterrupt):
        env.step(int(env.graph.candidates[0]))
    env.reset(options={"instance": 13})
    env.close()
    assert not under_way()


def test_faults_have_names():
    env = environment()
    with pytest.raises(ConfigError, match="reset first"):
        env.step(0)
    _, info = env.reset(options={"instance": 13})
    wrong = int(np.flatnonzero(info["action_mask"] == 0)[0])
    with pytest.raises(ConfigError, match=f"column {wrong}"):
        env.step(wrong)
    env.step(int(np.flatnonzero(info["action_mask"])[0]))
    env.problem = lambda i: covering(12, 15, 0.2, 0).to_scip()
    with pytest.raises(ConfigError, match="instance 0 needed no branching"):
        env.reset(options={"instance": 0})
    with pytest.raises(ConfigError, match="reward"):
        environment(reward="nodes")
    env.close()
    small = BranchingEnv(problem, GraphSize(10, 10, 10), Values(), instances=30)
    with pytest.raises(ShapeError, match="exceeds"):
        small.reset(options={"instance": 13})
    small.close()
    assert not under_way()


def test_an_error_of_the_observer_comes_out_of_the_step():
    class Broken(Values):
        def observe(self, focus):
            if focus.step == 1:
                raise ZeroDivisionError("mine")
            return super().observe(focus)

    env = BranchingEnv(problem, SIZE, Broken(), instances=30)
    env.reset(options={"instance": 13})
    with pytest.raises(ZeroDivisionError, match="mine"):
        env.step(int(env.graph.candidates[0]))
    env.close()


def test_instances_without_branching_are_given_up_after_fifty():
    env = BranchingEnv(
        lambda i: covering(12, 15, 0.2, 0).to_scip(), SIZE, Values(), settings="scip"
    )
    with pytest.raises(ConfigError, match="50 instances"):
        env.reset(seed=0)
