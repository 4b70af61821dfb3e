"""Draws of past steps: which are kept, which come back, and that the optimum stays."""

import pytest
import torch

from esscher.align.config import FitConfig
from esscher.align.evaluate import evaluate
from esscher.align.fit import fit
from esscher.align.objectives import OBJECTIVES
from esscher.align.propose import propose
from esscher.align.replay import KEPT, Replay
from esscher.core import Reward, Target
from esscher.errors import ConfigError
from tests.align import worlds
from tests.kit.lm.models import small


def batch(seed, n=8, prompts=None):
    if prompts is None:
        return propose(worlds.prior(), worlds.toy(), n, rng=worlds.seeded(seed))
    lm = small(max_new=3)
    target = Target(lm, Reward(lambda items: [float(len(i)) for i in items]))
    return propose(lm, target, n, prompts=prompts, group=4, rng=worlds.seeded(seed))


def test_only_the_last_batches_are_kept():
    replay = Replay()
    for seed in range(KEPT + 3):
        replay.add(batch(seed))
    assert len(replay.draws.log_q) == 8 * KEPT
    wanted = torch.cat([batch(seed).log_q for seed in range(3, KEPT + 3)])
    assert torch.equal(replay.draws.log_q, wanted)


def test_without_prompts_draws_come_back_once_each():
    replay = Replay()
    assert replay.sample(4, worlds.seeded(0)) is None
    for seed in range(4):
        replay.add(batch(seed))
    everything = replay.sample(32, worlds.seeded(1))
    assert sorted(everything.x.tolist()) == sorted(replay.draws.x.tolist())
    some = replay.sample(5, worlds.seeded(1))
    assert len(some.log_q) == 5
    torch.testing.assert_close(some.log_q, worlds.prior().log_prob(some.x))


def test_with_prompts_whole_groups_come_back_and_stay_apart():
    replay = Replay()
    for seed in range(5):
        replay.add(batch(seed, 8, ["a", "b"]))
    found = replay.sample(12, worlds.seeded(2))
    labels, sizes = torch.unique(found.groups, return_counts=True)
    assert sizes.tolist() == [4, 4, 4]
    for label in labels.tolist():
        rows = (found.groups == label).nonzero()[:, 0].tolist()
        assert len({found.context[i] for i in rows}) == 1
    assert len(torch.unique(replay.draws.groups)) == 10


@pytest.mark.parametrize("prompts", [None, ["a", "b"]])
def test_it_comes_back_from_its_state(prompts):
    replay = Replay()
    replay.add(batch(0, 8, prompts))
    again = Replay.of(replay.state_dict())
    a, b = (r.sample(6, worlds.seeded(3)) for r in (replay, again))
    assert torch.equal(a.log_weight, b.log_weight)
    assert a.context == b.context
    assert Replay.of(Replay().state_dict()).draws is None


ABLE = [name for name, o in OBJECTIVES.items() if o.any_law]


@pytest.mark.parametrize("name", ABLE)
def test_the_optimum_stays_and_the_draws_are_used(name):
    settings = {"steps": 300, "batch": 256}
    result = fit(worlds.prior(), worlds.toy(), name, proposal="replay", **settings)
    assert evaluate(worlds.prior(), worlds.toy()).tvd.mean > 0.3
    assert evaluate(result.policy, worlds.toy()).tvd.mean < 0.03
    few = {"steps": 3, "batch": 64}
    plain = fit(worlds.prior(), worlds.toy(), name, proposal="on_policy", **few)
    other = fit(worlds.prior(), worlds.toy(), name, proposal="replay", **few)
    assert not torch.equal(plain.policy.network.logits, other.policy.network.logits)


def test_objectives_that_need_weights_refuse():
    assert ABLE == ["vargrad", "trajectory_balance", "subtb"]
    with pytest.raises(ConfigError, match="these can: vargrad, trajectory_balance, subtb"):
        FitConfig("forward_kl", proposal="replay")
